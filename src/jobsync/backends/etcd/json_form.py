"""The JSON form of stored records, for operators to read; each field is checked when a record is read (rule R9)."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import json
import reprlib
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import attrs

__all__ = ['UNREADABLE', 'from_form', 'to_json']

T = TypeVar('T')

UNREADABLE = (ValueError, TypeError, LookupError, OverflowError, RecursionError, AttributeError)
"""What code raises that reads a record which jobsync did not write."""


_NEW = {'Node': ('settings', 'stalled'), 'TaskLock': ('group', 'cost'), 'Rebalance': ('version',)}
"""Fields that records of the schema before this one do not have: they get their defaults."""


def to_json(value: Any) -> bytes:
    """Return the JSON form of a value made of attrs classes, named tuples, enums, times, sets and what JSON has."""
    return json.dumps(value, default=_form, separators=(',', ':')).encode()


def _form(value: Any) -> Any:
    """Return one value that JSON does not have in terms of others."""
    if names := _names(type(value)):  # type: ignore[arg-type] # types are hashable
        return {name: getattr(value, name) for name in names}
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f'{value!r} has no form in JSON')


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind)) if attrs.has(kind) else ()


def from_form(kind: type[T], form: Any) -> T:
    """Return the value of a type from its parsed JSON; raise ``ValueError``, with the field, for any other form."""
    reader: Callable[[Any], T] = _reader(kind)  # type: ignore[arg-type] # types are hashable
    return reader(form)


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return the function that makes a value of a type from its form."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        read = _reader(next(part for part in parts if part is not types.NoneType))
        return lambda form: None if form is None else read(form)
    if origin in (tuple, frozenset):
        read = _reader(parts[0])
        return lambda form: origin(map(read, _plain(list, form)))
    if attrs.has(kind):
        return _record_reader(kind)
    if issubclass(kind, tuple):
        return functools.partial(_row, kind, tuple(typing.get_type_hints(kind).values()))
    if kind is float:
        return _number
    if kind is dt.datetime:
        return _time
    return kind if issubclass(kind, enum.Enum) else functools.partial(_plain, kind)


def _record_reader(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    readers = {name: _reader(hints[name]) for name in _names(kind)}
    needed = {field.name for field in attrs.fields(kind) if field.name not in _NEW.get(kind.__name__, ())}

    def read(form: Any) -> Any:
        if not needed <= _plain(dict, form).keys() <= readers.keys():
            raise ValueError(f'fields {reprlib.repr(sorted(form))} are not those of {kind.__name__}')
        values = {}
        try:
            for name in form:
                values[name] = readers[name](form[name])
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
        return kind(**values)

    return read


def _row(kind: Any, kinds: tuple[type, ...], form: Any) -> Any:
    """Return a named tuple of what JSON has."""
    if tuple(map(type, _plain(list, form))) != kinds:
        raise ValueError(f'{reprlib.repr(form)} is no {kind.__name__}')
    return kind(*form)


def _plain(kind: type[T], form: Any) -> T:
    if type(form) is not kind:
        raise ValueError(f'{reprlib.repr(form)} is no {kind.__name__}')
    return form


def _number(form: Any) -> float:
    if type(form) not in (int, float) or not -1e300 < form < 1e300:
        raise ValueError(f'{reprlib.repr(form)} is no finite number')
    return float(form)


def _time(form: Any) -> dt.datetime:
    time = dt.datetime.fromisoformat(_plain(str, form))
    if time.tzinfo is None:
        raise ValueError(f'{form} has no timezone')
    return time
