"""Records as JSON and back. People have editors: a record that cannot be read is reported and left out, and stops no other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from jobsync.backend import Node, TaskLock, Unreadable
from jobsync.backends.single_writer import LockTable, NamespaceState, Record
from jobsync.errors import BackendUnavailable

__all__ = ['json_of', 'loaded', 'readable']

T = TypeVar('T')
LISTS = {'holding', 'patterns', 'replaces'}
"""Fields of nodes and locks that are lists."""

json_of = make_converter()
configure_tagged_union(Record, json_of)


def one_by_one(kind: type[T], field: str, of: type, what: str) -> Callable[[Mapping[str, Any], Any], T]:
    """Return a cattrs hook for a ``kind`` with records in ``field``: those that cannot be read move to its ``unreadable``."""
    rest = make_dict_structure_fn(kind, json_of)

    def structure(value: Mapping[str, Any], _: Any) -> T:
        whole, records, unreadable = rest({**value, field: {}}, kind), {}, {}
        for key, record in value[field].items():
            try:
                records[key] = checked(json_of.structure(with_lists(record), of), key)
            except Exception as error:  # noqa: BLE001 - whatever a person has typed
                unreadable[key] = Unreadable(what, key, f'{record!r} is left out: {error}')
        return attrs.evolve(whole, **{field: records, 'unreadable': {**whole.unreadable, **unreadable}})  # type: ignore[misc,attr-defined]

    return structure


def with_lists(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record; ``TypeError`` if a text is where a list belongs, which would be read as the list of its characters."""
    for name in LISTS & record.keys():
        if not isinstance(record[name], list):
            raise TypeError(f'{name} is {record[name]!r}, which is no list')
    return record


def checked(record: Any, key: str) -> Any:
    """Return the record, if it has the name under which it is stored and its numbers are finite; else raise ``ValueError``."""
    if key != (record.name if isinstance(record, Node) else record.key):
        raise ValueError(f'it is stored under {key!r}')
    for value in attrs.astuple(record, recurse=False):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f'{value} is no number')
    return record


json_of.register_structure_hook(NamespaceState, one_by_one(NamespaceState, 'nodes', Node, 'node'))
json_of.register_structure_hook(LockTable, one_by_one(LockTable, 'by_task', TaskLock, 'lock'))


def loaded(content: bytes, kind: type[T]) -> T:
    """Return the content of a file; ``BackendUnavailable`` if the file cannot be read as a whole."""
    try:
        return json_of.loads(content, kind)
    except Exception as error:
        raise BackendUnavailable(f'a file of the namespace cannot be read: {error}') from error


def readable(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield the records of those lines that can be read."""
    for line in lines:
        try:
            yield json_of.loads(line, Record)  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001, S112 - whatever a person has typed
            continue
