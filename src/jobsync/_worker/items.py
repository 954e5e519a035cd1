"""Items as users declare and read them: small known sets of tasks, each shared out by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jobsync._cluster.rows import item_rows
from jobsync._core.counting import counted
from jobsync._core.records import LockEdit, LockFilter, LockRequest, TaskLock
from jobsync._core.redact import safe_repr
from jobsync._event_log import EventLogger
from jobsync._runtime import clock
from jobsync._worker.session import Session
from jobsync._worker.task_locks import patterns_of, warn_of_globs
from jobsync.config import checks
from jobsync.errors import ConfigError
from jobsync.rows import ItemRow
from jobsync.task import key_of

__all__ = ['Items']

_logger = EventLogger('jobsync.job')


class Items:
    """The items of a namespace, as one node declares and reads them."""

    def __init__(self, session: Session) -> None:
        self._session, self._node_name = session, session.node_name
        self._declared: dict[str, list[str]] = {}
        """What this node has declared, by group: its share where coordination is off."""

    def declare(self, group: str, ids: Iterable[object], cost: object, pattern: object) -> None:
        """Put a group in place of what it was, in one step."""
        checks.group.of('group', group)
        checks.items.of('ids', ids)
        keys = list(dict.fromkeys(map(key_of, ids)))
        costs = _costs(cost, keys)
        patterns = ('%',) if pattern is None else patterns_of(pattern)
        warn_of_globs(self._node_name, patterns)
        session = self._session
        if session.backend is not None or session.config.enabled:
            self._replace(group, [LockRequest(key, patterns, self._node_name, cost=costs[key]) for key in keys])
        self._declared[group] = keys

    def _replace(self, group: str, requests: list[LockRequest]) -> None:
        session, backend = self._session, self._session.needed_backend
        before: dict[str, TaskLock] = {}
        wanted = {request.task_id for request in requests}
        for lock in session.caller.call(backend.read_locks).locks:
            if lock.group == group:
                before[lock.task_id] = lock
            elif lock.is_item and lock.task_id in wanted:
                raise ConfigError(
                    f'item {safe_repr(lock.task_id)} of group {group!r}: is in group {lock.group!r}, and an id is an item of one '
                    'group only; declare that group without it first'
                )
        # An item that stays as it is keeps its creator, so that of several nodes that declare one set, one changes the store.
        same = {request.task_id for request in requests if _is_same(request, before.get(request.task_id))}
        new, gone = wanted - same, before.keys() - wanted
        if new or gone:
            put = tuple(_again(before[request.task_id]) if request.task_id in same else request for request in requests)
            session.caller.call(lambda: backend.edit_locks(LockEdit(LockFilter(), put, group)))
            text = 'node %r declared group %r: %s, %d new or changed, %d gone'
            _logger.info(text, self._node_name, group, counted(len(requests), 'item'), len(new), len(gone))

    def mine(self, group: str) -> list[str]:
        """Return the items of a group that may be claimed now. No I/O, no lock."""
        checks.group.of('group', group)
        lease = self._session.lease_here
        if lease is None:
            return [] if self._session.config.enabled else list(self._declared.get(group, ()))
        deadline, pins, _ = lease.grant
        tasks = lease.assignment.group_tasks.get(group, ())
        found = [] if pins is None else [task for task in tasks if pins.get(task)]
        return found if clock.now() < deadline else []

    def rows(self, group: str | None) -> list[ItemRow]:
        """Return every item, or those of one group, with their owners, by group and id."""
        if group is not None:
            checks.group.of('group', group)
        session = self._session
        locks = session.caller.call(session.needed_backend.read_locks).locks
        return item_rows(locks, session.read_assignment().pin_of, group)


def _costs(cost: object, keys: Sequence[str]) -> Mapping[str, float]:
    """Return the cost of each item, from one number for all, or from those of some."""
    if not isinstance(cost, Mapping):
        checks.cost.of('cost', cost)
        return dict.fromkeys(keys, float(cost))  # type: ignore[arg-type]  # a number, by the check
    costs = dict.fromkeys(keys, 1.0)
    for item, each in cost.items():
        key = key_of(item)
        if key not in costs:
            raise ConfigError(f'cost has {safe_repr(item)}: must have only items of the group')
        checks.cost.of(f'cost of {safe_repr(item)}', each)
        costs[key] = float(each)
    return costs


def _is_same(request: LockRequest, before: TaskLock | None) -> bool:
    return before is not None and (before.patterns, before.cost) == (request.patterns, request.cost)


def _again(lock: TaskLock) -> LockRequest:
    return LockRequest(lock.task_id, lock.patterns, lock.created_by, lock.reason, cost=lock.cost)
