"""The long lists, in pages: task locks and items, of which there may be a hundred thousand, from the reading that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobsync._cluster import rows
from jobsync._cluster.reading import ClusterReading

__all__ = ['items', 'locks']


def locks(reading: ClusterReading, query: str, offset: int, limit: int, unmatched: bool) -> Mapping[str, Any]:
    """Return a page of the task locks, all or only those that no live node matches, with the number of all that match.

    ``query`` is a text that the task, a pattern, the creator or the reason contains, in either case of letters.
    """
    words, pins = query.casefold(), reading.pin_of
    alone = {pin.task_id for pin in reading.assignment.unplaced}
    found = [
        lock
        for lock in reading.locks.locks
        if not lock.group
        and (not unmatched or lock.task_id in alone)
        and (
            not words
            or any(words in text.casefold() for text in (lock.task_id, *lock.patterns, lock.created_by, lock.reason or ''))
        )
    ]
    shown = rows.lock_rows(found[offset : offset + limit], reading.settings.total_tokens, pins)
    owners = {task: pin.owner for task, pin in pins.items()}
    return {
        'total': len(found),
        'rows': [{**row, 'owner': owners.get(row['task_id']), 'is_unmatched': row['task_id'] in alone} for row in shown],
    }


def items(reading: ClusterReading, query: str, offset: int, limit: int, group: str | None) -> Mapping[str, Any]:
    """Return a page of the items, of all groups or one, by group and id, as ``locks`` does. ``query`` may be in their owners."""
    words = query.casefold()
    found = [
        row
        for row in rows.item_rows(reading.locks.locks, reading.pin_of, group)
        if not words or words in row['item'].casefold() or words in (row['owner'] or '').casefold()
    ]
    return {'total': len(found), 'rows': found[offset : offset + limit]}
