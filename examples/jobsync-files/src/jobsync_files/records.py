"""jobsync's records as JSON, and back by their annotations."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import json
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import attrs

__all__ = ['dump', 'load', 'load_lines']

T = TypeVar('T')
hints = functools.cache(get_type_hints)


def dump(value: object) -> bytes:
    """One line of JSON."""
    return json.dumps(value, default=_plain, separators=(',', ':')).encode() + b'\n'


def _plain(value: Any) -> object:
    """What ``json`` cannot write by itself, one step simpler."""
    if attrs.has(type(value)):
        return {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    return dict(value) if isinstance(value, Mapping) else list(value)


def load(kind: type[T], line: bytes) -> T:
    """The record of this kind that was dumped."""
    made: T = _made(kind, json.loads(line))
    return made


def load_lines(kind: type[T], content: bytes) -> Iterable[T]:
    """One record for each line."""
    return (load(kind, line) for line in content.splitlines())


def _made(kind: Any, data: Any) -> Any:
    if data is None:
        return None
    if isinstance(kind, types.UnionType):
        (kind,) = (option for option in get_args(kind) if option is not type(None))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Mapping:
        return {key: _made(arguments[1], value) for key, value in data.items()}
    if origin is not None:
        items = data if arguments[0] in (int, str) else [_made(arguments[0], item) for item in data]
        return items if origin is Sequence else origin(items)
    if attrs.has(kind):
        return kind(**{name: _made(hints(kind)[name], value) for name, value in data.items()})
    if issubclass(kind, dt.date):
        return kind.fromisoformat(data)
    return kind(data) if issubclass(kind, enum.Enum) else data
