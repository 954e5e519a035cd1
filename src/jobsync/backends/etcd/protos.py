"""The messages of ``messages.proto`` as classes, made when this is imported.

Code that protoc generates runs only beside versions of protobuf near its own, and messages that were made from another copy of
etcd's own package cannot be loaded twice. So the file is read here, into a descriptor, from which protobuf makes the classes.
Only what that file uses of the language is understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import attrs
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ['ENUM_VALUES', 'MESSAGES', 'METHODS', 'Method']

FILE = 'messages.proto'
SERVER_PACKAGE = 'etcdserverpb'
"""Whose services these are on the wire."""

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {name: getattr(Field, f'TYPE_{name.upper()}') for name in ('bytes', 'string', 'bool', 'int64', 'uint64', 'uint32')}


@attrs.frozen
class Method:
    """One call that a service offers."""

    service: str
    name: str
    request: Any
    """The class of the request."""
    response: Any
    streams_request: bool
    streams_response: bool

    @property
    def path(self) -> str:
        """Its name on the wire."""
        return f'/{SERVER_PACKAGE}.{self.service}/{self.name}'

    def on(self, channel: Any) -> Any:
        """The call as a function of the request, on a channel of gRPC."""
        kind = f'{"stream" if self.streams_request else "unary"}_{"stream" if self.streams_response else "unary"}'
        return getattr(channel, kind)(
            self.path, request_serializer=self.request.SerializeToString, response_deserializer=self.response.FromString
        )


class Reader:
    """Reads a file of definitions, word by word, into a descriptor."""

    def __init__(self, text: str) -> None:
        self._words: Iterator[str] = iter(re.findall(r'"[^"]*"|[\w.]+|[^\s\w]', re.sub(r'//.*', '', text)))
        self.file = descriptor_pb2.FileDescriptorProto(name=f'jobsync/etcd/{FILE}')
        for word in self._words:
            if word == 'syntax':
                self.file.syntax = self._until(';')[1].strip('"')
            elif word == 'package':
                self.file.package = self._until(';')[0]
            elif word == 'message':
                self._message(self.file.message_type.add())
            elif word == 'enum':
                self._enum(self.file.enum_type.add())
            elif word == 'service':
                self._service(self.file.service.add())
        self._resolve()

    def _until(self, end: str) -> list[str]:
        return list(iter(lambda: next(self._words), end))

    def _named(self, target: Any) -> None:
        (target.name,) = self._until('{')

    def _message(self, message: Any) -> None:
        self._named(message)
        for word in iter(lambda: next(self._words), '}'):
            if word == 'enum':
                self._enum(message.enum_type.add())
            elif word == 'oneof':
                self._named(message.oneof_decl.add())
                for kind in iter(lambda: next(self._words), '}'):
                    self._field(message, kind).oneof_index = len(message.oneof_decl) - 1
            else:
                self._field(message, word)

    def _field(self, message: Any, word: str) -> Any:
        label = Field.LABEL_OPTIONAL
        if word == 'repeated':
            label, word = Field.LABEL_REPEATED, next(self._words)
        name, _, number = self._until(';')
        return message.field.add(name=name, number=int(number), label=label, type_name=word)

    def _enum(self, enum: Any) -> None:
        self._named(enum)
        for name in iter(lambda: next(self._words), '}'):
            _, number = self._until(';')
            enum.value.add(name=name, number=int(number))

    def _service(self, service: Any) -> None:
        self._named(service)
        for word in iter(lambda: next(self._words), '}'):
            assert word == 'rpc', word
            name, request, _, response = ' '.join(self._until(';')).replace('(', ')').split(')')[:4]
            method = service.method.add(name=name.strip())
            for side, words in (('client', request), ('server', response)):
                kind = words.split()[-1]
                setattr(method, 'input_type' if side == 'client' else 'output_type', f'.{self.file.package}.{kind}')
                setattr(method, f'{side}_streaming', words.split()[0] == 'stream')

    def _resolve(self) -> None:
        """Give each field the kind of its type, which may be defined after it."""
        package = f'.{self.file.package}'
        enums = {enum.name for enum in self.file.enum_type}
        for message in self.file.message_type:
            nested = {enum.name for enum in message.enum_type}
            for field in message.field:
                kind = field.type_name
                if kind in SCALARS:
                    field.type = SCALARS[kind]
                    field.ClearField('type_name')
                else:
                    field.type = Field.TYPE_ENUM if kind in nested | enums else Field.TYPE_MESSAGE
                    field.type_name = f'{package}.{message.name}.{kind}' if kind in nested else f'{package}.{kind}'


def load() -> tuple[dict[str, Any], dict[str, int], tuple[Method, ...]]:
    """The classes of all messages by name, the values of enums that stand outside any message, and the methods."""
    file = Reader(resources.files(__package__).joinpath(FILE).read_text('utf-8')).file
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    classes = {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f'{file.package}.{message.name}'))
        for message in file.message_type
    }
    methods = tuple(
        Method(
            service=service.name,
            name=method.name,
            request=classes[method.input_type.rpartition('.')[2]],
            response=classes[method.output_type.rpartition('.')[2]],
            streams_request=method.client_streaming,
            streams_response=method.server_streaming,
        )
        for service in file.service
        for method in service.method
    )
    return classes, {value.name: value.number for enum in file.enum_type for value in enum.value}, methods


MESSAGES, ENUM_VALUES, _methods = load()
METHODS = {f'{method.service}.{method.name}': method for method in _methods}
"""By service and name: ``KV.Txn``."""
