"""The history of a cluster and of a task: nodes' records and operators' actions in one list."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from jobsync._cluster.actions import actions
from jobsync._cluster.explanation import place_of
from jobsync._cluster.names import schedule_of
from jobsync._cluster.reading import ClusterReading
from jobsync._core.counting import counted
from jobsync._core.records import TaskLock
from jobsync.rows import EventRow, RebalanceRow, TaskRow

__all__ = ['of_cluster', 'of_task']


def of_cluster(locks: Iterable[TaskLock], rebalances: Iterable[RebalanceRow]) -> list[EventRow]:
    """Return rebalances, changes of the leader, and what operators have done, newest first."""
    return _newest_first([*actions(locks), *map(_rebalance, rebalances)])


def of_task(
    reading: ClusterReading,
    key: str,
    claims: Iterable[TaskRow],
    audits: Iterable[TaskRow],
    rebalances: Sequence[RebalanceRow],
) -> list[EventRow]:
    """Return what nodes and operators have done with a task, and since when its owner has it, newest first."""
    place, audits = place_of(reading, schedule_of(key) or key), list(audits)
    found = [*actions(reading.locks.locks, key)]
    if place.lock is not None and not any(row['event'] == 'lock' and row['by'] == place.lock.created_by for row in found):
        words = ', '.join(place.lock.patterns) + (f', {place.lock.reason}' if place.lock.reason else '')
        found.append(_event(place.lock.created_at, 'item' if place.lock.group else 'lock', place.lock.created_by, f'to {words}'))
    done, live = {row['date'] for row in audits}, reading.live
    for row in claims:
        is_lost = row['date'] not in done and row['node'] not in live
        lost = ', and not completed by this node, which is not at work any more' if is_lost else ''
        found.append(_event(row['created_on'], 'begun', row['node'], f'for {row["date"]}{lost}'))
    found += [_event(row['created_on'], 'completed', row['node'], f'for {row["date"]}') for row in audits]
    moved = next((row for row in rebalances if row['version'] == place.version), None)
    if place.owner is not None and moved is not None:
        found.append(_event(moved['triggered_at'], 'owner', place.owner, moved['trigger_reason']))
    return _newest_first(found)


def _rebalance(row: RebalanceRow) -> EventRow:
    nodes = f'{row["nodes_before"]} to {counted(row["nodes_after"], "node")}'
    return _event(
        row['triggered_at'],
        'rebalance',
        row['leader_node'],
        f'{row["trigger_reason"]}: {counted(row["tokens_moved"], "token")}, {nodes}',
    )


def _event(at: dt.datetime, event: str, by: str, details: str) -> EventRow:
    return {'at': at, 'event': event, 'by': by, 'details': details}


def _newest_first(events: list[EventRow]) -> list[EventRow]:
    return sorted(events, key=lambda event: event['at'], reverse=True)
