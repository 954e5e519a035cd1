"""The protocol on Redis: each method is one script.

A script is atomic, so the comparisons that close a race are in the scripts, each with its timeline.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jobsync.backend import (
    Audit,
    Backend,
    BackendInfo,
    BackendOptions,
    Claim,
    HistoryKind,
    Leadership,
    LockEdit,
    LockReading,
    NodeRef,
    Opened,
    Pulse,
    Purged,
    Reach,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
    Unclaimed,
)
from jobsync.backends._common.values import draw_id, draw_stamp
from jobsync.backends.redis import records
from jobsync.backends.redis.assignment import RedisAssignment
from jobsync.backends.redis.errors import OLDER
from jobsync.backends.redis.history import history_of, incomplete_of
from jobsync.backends.redis.listener import RedisListener
from jobsync.backends.redis.namespace import RedisNamespace
from jobsync.backends.redis.server import recognised
from jobsync.backends.redis.url import RedisServer, check_files, server_of

__all__ = ['RedisBackend', 'connect']

MAX_TOKENS = 1_000_000
MAX_REMOVALS = 5_000
"""Their comparisons occupy the server for a tenth of a second or two; twice as many pass as well."""


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for a URL, without reaching a server."""
    server = server_of(url)
    check_files(server)
    return RedisBackend(server, options)


class RedisBackend:
    """A ``Backend`` on a Redis server."""

    def __init__(self, server: RedisServer, options: BackendOptions) -> None:
        self._namespace = RedisNamespace(server, options)
        self._run = self._namespace.run
        self._assignment = RedisAssignment(self._namespace)
        self._listener = RedisListener(self._namespace)
        self._has_rights = False
        self.read_assignment, self.commit = self._assignment.read_assignment, self._assignment.commit
        self.renew_timeline, self.wait = self._assignment.renew_timeline, self._listener.wait

    @property
    def info(self) -> BackendInfo:
        """See ``Backend.info``. The URL declares whether the store is durable, and ``open`` checks it."""
        return BackendInfo(
            'redis',
            durable=self._namespace.server.durable,
            push=True,
            reach=Reach.NETWORK,
            max_tokens=MAX_TOKENS,
            max_removals=MAX_REMOVALS,
            namespaces=True,
        )

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._namespace}>'

    # The namespace

    def read_namespaces(self, limit: int) -> list[str]:
        return sorted(self._namespace.of_server())[:limit]

    def open(self, settings: Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()) -> Opened:
        deadline = self._namespace.deadline()
        is_view = settings is None
        self._assignment.audience.add(is_node=not is_view)
        # t=0  an operator sets a maxmemory-policy that drops keys of any kind, and the memory is full
        # t=1  the records of nodes are dropped: each finds that it is not registered any more, and would register for ever
        self._namespace.pool.check_again()
        if not self._has_rights:
            with recognised(self._namespace.server, deadline):
                (publishes,) = self._run('rights', deadline=deadline, view=is_view)
            if publishes != b'1':
                self._listener.poll('this user may not publish announcements')
            self._has_rights = not is_view
        total, function, format_, *timeline = self._run(
            'open',
            deadline=deadline,
            create=create,
            older=OLDER,
            total_tokens='' if settings is None else settings.total_tokens,
            hash_function='' if settings is None else settings.hash_function,
            format='' if settings is None else settings.format,
            dead='' if dead is None else json.dumps([[run, str(heartbeat)] for run, heartbeat in dead]),
            id=draw_id(),
            stamp=draw_stamp(),
        )
        return Opened(Settings(int(total), function.decode(), int(format_)), records.timeline_of(*timeline))

    def close(self) -> None:
        self._listener.close()
        self._namespace.pool.close()

    def snapshot(self) -> Snapshot:
        fields, (now, locks_revision, longest, flat) = records.shared_fields_of(self._run('snapshot'))
        nodes, unreadable = records.nodes_of(flat)
        return Snapshot(
            **fields,
            now=records.moment(now),
            nodes=tuple(nodes),
            locks_revision=int(locks_revision),
            longest_timeout_sec=float(longest),
            unreadable=unreadable,
        )

    # A node's own record

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        run, heartbeat = replacing or ('', '')
        self._run(
            'register',
            **records.timeline_words(timeline),
            at_least=at_least,
            name=node.ref.name,
            run=node.ref.incarnation,
            record=records.packed_record(node),
            weight=float(node.weight),
            longest_timeout=float(max(node.timeout_sec, node.longest_timeout_sec)),
            replacing_run=run,
            replacing_heartbeat=heartbeat,
            stamp=draw_stamp(),
        )

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        answer = self._run(
            'heartbeat',
            name=ref.name,
            run=ref.incarnation,
            seen=records.revision_text(seen),
            holding=','.join(map(str, sorted(holding))),
            candidate=candidate,
        )
        fields, (own, leaders, age, leader_is_candidate) = records.shared_fields_of(answer)
        return Pulse(
            **fields,
            heartbeat=int(own),
            leader_heartbeat=int(leaders) if leaders else None,
            leader_age_sec=int(age) / 1e6 if age else None,
            leader_is_candidate=leader_is_candidate != b'0',
        )

    def set_weight(self, ref: NodeRef, weight: float, stalled: bool = False) -> None:
        self._run('set_weight', **records.run_words(ref), weight=float(weight), stalled=stalled, stamp=draw_stamp())

    def deregister(self, ref: NodeRef, died: bool = False) -> None:
        self._run('deregister', **records.run_words(ref), died=died, stamp=draw_stamp())

    def remove_node(self, ref: NodeRef) -> bool:
        (removed,) = self._run('remove_node', **records.run_words(ref), stamp=draw_stamp())
        return bool(int(removed))

    # The leader

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        answer = self._run('acquire_leadership', **records.run_words(ref), epoch=epoch, stamp=draw_stamp())
        return records.leadership_of(*answer)

    # Task locks

    def read_locks(self) -> LockReading:
        (found,) = self._run('read_locks')
        return records.locks_of(found)

    def edit_locks(self, edit: LockEdit) -> int:
        remove = edit.remove
        tasks = sorted(remove.task_ids) if remove and remove.task_ids is not None else None
        creator = remove.created_by if remove else None
        (gone,) = self._run(
            'edit_locks',
            *(tasks or ()),
            *records.packed_requests(edit.put),
            remove='' if remove is None else 'all' if tasks is None else len(tasks),
            created_by='' if creator is None else '+' + creator,
            expired=remove is not None and remove.expired,
            group=edit.group,
            stamp=draw_stamp(),
        )
        return int(gone)

    # History

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        flat = self._append('claim', ref.name, ref.incarnation, items, date, '' if tolerated is None else tolerated)
        found = {item.decode(): lost for item, lost in records.pairs(flat)}
        lost = {item: int(lost) for item, lost in found.items() if lost}
        return Unclaimed(frozenset(found.keys() - lost.keys()), lost)

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: NodeRef | None = None) -> None:
        self._run('forget_attempts', *dict.fromkeys(items), date=date.isoformat(), **records.run_words(ref or NodeRef('', '')))

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        flat = self._run('lost_attempts', date=date.isoformat(), at_least=at_least)
        found = dict[str, int]()
        for item, lost in records.pairs(flat):
            with contextlib.suppress(UnicodeDecodeError):  # jobsync did not write it
                found[item.decode()] = int(lost)
        return found

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        self._append('audit', node, '', items, date)

    def _append(
        self, kind: str, name: str, run: str, items: Sequence[str], date: dt.date, tolerated: int | str = ''
    ) -> Sequence[bytes]:
        return self._run(
            'append', *dict.fromkeys(items), kind=kind, name=name, run=run, date=date.isoformat(), tolerated=tolerated
        )

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        if kind is HistoryKind.REBALANCE:
            date = item = None
        _, flat = self._history(f'{kind.value}s', date, item or '', '' if limit is None else max(limit, 1))
        return history_of(kind, flat, limit)

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        now, flat = self._history('open', date)
        return incomplete_of(now, flat, older_than)

    def _history(self, kind: str, date: dt.date | None, item: str = '', limit: int | str = '') -> list[Any]:
        return self._run('history', kind=kind, date=date.isoformat() if date else '', item=item, limit=limit)

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        gone, left = self._run('purge', kind=f'{kind.value}s', before=records.microseconds(before), left=after, limit=limit)
        return Purged(int(gone), left.decode())
