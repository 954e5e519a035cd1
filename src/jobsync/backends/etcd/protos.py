"""etcd's messages and calls, built from the descriptor ``messages.binpb`` when this module is imported.

``messages.binpb`` is ``messages.proto`` as protoc serializes it: the command stands in that file, and a test compares the two. A
descriptor loads beside any version of protobuf, while code that protoc generates loads only beside versions near its own. The
messages have a pool and a proto package of their own, so another client's definitions of etcd can be loaded beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ['ENUM_VALUES', 'MESSAGES', 'calls_on']

SERVER_PACKAGE = 'etcdserverpb'
"""The proto package of etcd's services on the wire."""

_set = descriptor_pb2.FileDescriptorSet.FromString(resources.files(__package__).joinpath('messages.binpb').read_bytes())
(_file,) = _set.file
_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(_file.SerializeToString())

MESSAGES: dict[str, Any] = {
    message.name: message_factory.GetMessageClass(_pool.FindMessageTypeByName(f'{_file.package}.{message.name}'))
    for message in _file.message_type
}
"""The classes of all messages, by name."""
ENUM_VALUES = {value.name: value.number for enum in _file.enum_type for value in enum.value}
"""The values of the enums that stand outside any message."""


def _methods() -> Iterator[tuple[str, str, str, Any, Any]]:
    """Yield each call's name, its path on the wire, its kind in gRPC's words, and the classes of its request and response."""
    for service in _file.service:
        for method in service.method:
            request, response = (MESSAGES[kind.rpartition('.')[2]] for kind in (method.input_type, method.output_type))
            kinds = ('stream' if streams else 'unary' for streams in (method.client_streaming, method.server_streaming))
            path = f'/{SERVER_PACKAGE}.{service.name}/{method.name}'
            yield f'{service.name}.{method.name}', path, '_'.join(kinds), request, response


METHODS = tuple(_methods())
"""Every call of every service. Read from the descriptor once: two threads at once must not read it."""


def calls_on(channel: Any) -> dict[str, Callable[..., Any]]:
    """Return every call of every service as a function of its request on a gRPC channel, by its name, such as ``KV.Txn``."""
    return {
        name: getattr(channel, kind)(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        for name, path, kind, request, response in METHODS
    }
