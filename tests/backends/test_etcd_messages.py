"""The descriptor of etcd's messages that jobsync loads is what its readable source says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

PACKAGE = resources.files('jobsync.backends.etcd')


def words(text: str) -> list[str]:
    """The words and signs of a .proto file, comments left out."""
    return re.findall(r'"[^"]*"|[\w.]+|[^\s\w]', re.sub(r'//.*', '', text))


def printed(file: Any) -> Iterator[str]:
    """A descriptor as .proto, each definition in its order."""
    yield f'syntax = "{file.syntax}"; package {file.package};'
    yield from map(message_text, file.message_type)
    yield from map(enum_text, file.enum_type)
    yield from map(service_text, file.service)


def message_text(message: Any) -> str:
    """A message: its enums first, and a oneof where its first field is."""
    body, opened = [enum_text(enum) for enum in message.enum_type], None
    for field in message.field:
        group = message.oneof_decl[field.oneof_index].name if field.HasField('oneof_index') else None
        if group != opened:
            body += ['}'] * (opened is not None) + [f'oneof {group} {{'] * (group is not None)
            opened = group
        repeated = 'repeated ' if field.label == FieldDescriptorProto.LABEL_REPEATED else ''
        kind = field.type_name.rpartition('.')[2] or FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()
        body.append(f'{repeated}{kind} {field.name} = {field.number};')
    return f'message {message.name} {{ {" ".join(body)} {"}" * (opened is not None)} }}'


def enum_text(enum: Any) -> str:
    """An enum."""
    return f'enum {enum.name} {{ {" ".join(f"{value.name} = {value.number};" for value in enum.value)} }}'


def service_text(service: Any) -> str:
    """A service."""
    calls = []
    for method in service.method:
        request, response = (kind.rpartition('.')[2] for kind in (method.input_type, method.output_type))
        sides = (('stream ' * method.client_streaming) + request, ('stream ' * method.server_streaming) + response)
        calls.append(f'rpc {method.name}({sides[0]}) returns ({sides[1]});')
    return f'service {service.name} {{ {" ".join(calls)} }}'


def definitions(text: str) -> list[list[str]]:
    """Each definition of a file, in no order of the file: protoc keeps messages, enums and services apart."""
    parts = re.split(r'\b(?=(?:message|enum|service|syntax)\b)', ' '.join(words(text)))
    return sorted(part.split() for part in parts)


def test_the_descriptor_is_its_source() -> None:
    """Printed as .proto, ``messages.binpb`` has exactly the definitions of ``messages.proto``; else make it anew as that says."""
    (file,) = FileDescriptorSet.FromString((PACKAGE / 'messages.binpb').read_bytes()).file
    source = (PACKAGE / 'messages.proto').read_text('utf-8')
    assert definitions(' '.join(printed(file))) == definitions(source)
