"""The protocol on Redis: each method is one script."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from jobsync.backend import (
    Audit,
    Backend,
    BackendInfo,
    BackendOptions,
    Changes,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockReading,
    Member,
    NodeRef,
    Opened,
    Pin,
    Plan,
    Pulse,
    Reach,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
)
from jobsync.backends.redis import records
from jobsync.backends.redis.connection import Deadline
from jobsync.backends.redis.keys import RedisKeys
from jobsync.backends.redis.layers import Layer, entries_to_fold, is_long, merged, packed, unpacked
from jobsync.backends.redis.listener import RedisListener
from jobsync.backends.redis.pool import RedisPool
from jobsync.backends.redis.refusals import SCHEMA, refusal
from jobsync.backends.redis.script import script
from jobsync.backends.redis.seals import SpoiltError
from jobsync.backends.redis.server import check_server
from jobsync.backends.redis.url import RedisServer, server_of
from jobsync.errors import BackendUnavailable, JobsyncError

__all__ = ['RedisBackend', 'connect']

MAX_TOKENS = 1_000_000
MAX_REMOVALS = 5_000
"""Their comparisons hold the server up for a tenth of a second or two; twice as many pass as well."""


def connect(url: str, options: BackendOptions) -> Backend:
    """The backend for a URL; nothing is reached yet."""
    return RedisBackend(server_of(url), options)


@attrs.frozen
class LayeredReading:
    """The assignment, or what was written after the version ``since``, in layers."""

    version: Revision
    since: Revision | None
    first: bytes
    """The version of the first layer."""
    sizes: Sequence[int]
    """Of the layers, in bytes."""
    layers: Sequence[Layer]
    members: Mapping[str, Member | None]
    pins: tuple[Pin, ...]


class RedisBackend:
    """A ``Backend`` on a Redis server."""

    def __init__(self, server: RedisServer, options: BackendOptions) -> None:
        self._server = server
        self._keys = RedisKeys(options.namespace)
        self._op_timeout, self._bulk_timeout = options.op_timeout_sec, options.bulk_timeout_sec
        self._standing = ('1' if server.durable else '0', self._keys.channel(server.db))
        self._link = RedisPool(server)
        self._listener = RedisListener(self._link, self._keys, options.op_timeout_sec)
        self._checked = False
        self._pins: tuple[bytes, tuple[Pin, ...]] = (b'0:0', ())
        """The pins of the last reading, and their version."""

    @property
    def info(self) -> BackendInfo:
        """See ``Backend.info``. Whether the store is durable is for the URL to say, and for ``open`` to check."""
        return BackendInfo(
            'redis',
            durable=self._server.durable,
            push=True,
            reach=Reach.NETWORK,
            max_tokens=MAX_TOKENS,
            max_removals=MAX_REMOVALS,
        )

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._server} {self._keys.namespace}>'

    def _run(self, script_name: str, deadline: Deadline, /, *rest: object, **named: object) -> list[Any]:
        """Run a script; what follows the ``ok`` of its answer."""
        code = script(script_name)
        answer: list[Any] = self._link.run(code, deadline, *code.words(self._keys, self._standing, named, rest))
        status, *told = answer
        if status == b'ok':
            return told
        raise refusal(status.decode(), told, named, f'{self._server}', self._keys.namespace)

    @property
    def _op(self) -> Deadline:
        return Deadline(self._op_timeout)

    @property
    def _bulk(self) -> Deadline:
        return Deadline(self._bulk_timeout, self._op_timeout)

    # The namespace

    def open(self, settings: Settings, create: bool, dead: Collection[tuple[str, int]] = ()) -> Opened:
        """See ``Backend.open``."""
        deadline = self._op
        if not self._checked:
            check_server(self._link, deadline)
            (publishes,) = self._run('rights', deadline)
            if publishes != b'1':
                self._listener.poll('this user may not publish announcements')
            self._checked = True
        total, function, format_, *timeline = self._run(
            'open',
            deadline,
            create=create,
            schema=SCHEMA,
            total_tokens=settings.total_tokens,
            hash_function=settings.hash_function,
            format=settings.format,
            dead=json.dumps([[run, str(heartbeat)] for run, heartbeat in dead]),
            id=drawn_id(),
            stamp=drawn_stamp(),
        )
        return Opened(Settings(int(total), function.decode(), int(format_)), records.timeline_of(*timeline))

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        """See ``Backend.renew_timeline``."""
        self._run(
            'renew_timeline',
            self._op,
            **parts_of(expected),
            at_least=at_least,
            longest_timeout=repr(float(longest_timeout_sec)),
            id=drawn_id(),
            stamp=drawn_stamp(),
        )

    def close(self) -> None:
        """See ``Backend.close``."""
        self._listener.close()
        self._link.close()

    def snapshot(self) -> Snapshot:
        """See ``Backend.snapshot``."""
        told = self._run('snapshot', self._op)
        nodes, unreadable = records.nodes_of(told[15])
        return Snapshot(
            timeline=records.timeline_of(*told[:3]),
            store=told[3].decode(),
            now=records.moment(told[4]),
            revision=records.revision_of(*told[5:7]),
            version=records.revision_of(*told[7:9]),
            leadership=records.leadership_of(*told[9:12]),
            nodes=tuple(sorted(nodes, key=lambda node: node.created_on)),
            locks_revision=int(told[12]),
            longest_timeout_sec=float(told[13]),
            position=int(told[14]),
            unreadable=unreadable,
        )

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        return self._listener.wait(revision, timeout)

    # A node's own record

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """See ``Backend.register``."""
        run, heartbeat = replacing or ('', '')
        self._run(
            'register',
            self._op,
            **parts_of(timeline),
            at_least=at_least,
            name=node.ref.name,
            run=node.ref.incarnation,
            record=records.packed_record(node),
            weight=repr(float(node.weight)),
            longest_timeout=repr(float(max(node.timeout_sec, node.longest_timeout_sec))),
            replacing_run=run,
            replacing_heartbeat=heartbeat,
            stamp=drawn_stamp(),
        )

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> Pulse:
        """See ``Backend.heartbeat``."""
        told = self._run(
            'heartbeat',
            self._op,
            name=ref.name,
            run=ref.incarnation,
            seen=records.joined_text(seen),
            holding=','.join(map(str, sorted(holding))),
            candidate=candidate,
        )
        return Pulse(
            heartbeat=int(told[0]),
            timeline=records.timeline_of(*told[1:4]),
            store=told[4].decode(),
            revision=records.revision_of(*told[5:7]),
            version=records.revision_of(*told[7:9]),
            leadership=records.leadership_of(*told[9:12]),
            leader_heartbeat=int(told[12]) if told[12] else None,
            leader_age_sec=int(told[13]) / 1e6 if told[13] else None,
            leader_is_candidate=told[14] != b'0',
            position=int(told[15]),
        )

    def set_weight(self, ref: NodeRef, weight: float) -> None:
        """See ``Backend.set_weight``."""
        self._run('set_weight', self._op, name=ref.name, run=ref.incarnation, weight=repr(float(weight)), stamp=drawn_stamp())

    def deregister(self, ref: NodeRef) -> None:
        """See ``Backend.deregister``."""
        self._run('deregister', self._op, name=ref.name, run=ref.incarnation, stamp=drawn_stamp())

    # The leader's

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """See ``Backend.acquire_leadership``."""
        told = self._run('acquire_leadership', self._op, name=ref.name, run=ref.incarnation, epoch=epoch, stamp=drawn_stamp())
        return records.leadership_of(*told)

    def read_assignment(self, since: Revision | None = None) -> Changes:
        """See ``Backend.read_assignment``."""
        found = self._read(since, self._bulk)
        return Changes(found.version, found.since, found.members, merged(found.layers), found.pins)

    def _read(self, since: Revision | None, deadline: Deadline) -> LayeredReading:
        known, pins = self._pins
        *timeline, number, stamp, first, everybody, base, entries, version_of_pins, found = self._run(
            'read_assignment', deadline, since=records.joined_text(since), pins=known
        )
        try:
            layers, written = zip(*map(unpacked, (base, *entries)), strict=True)
            if everybody is not None:
                since, members = None, records.members_of(everybody)
            else:
                members = {name: member for each in written for name, member in each.items()}
            if found is not None:
                pins = records.pins_of(found)
                self._pins = version_of_pins, pins
        except SpoiltError as error:
            # Without this record a token could be given away whose owner is at work: only the wait of a new timeline is safe.
            self.renew_timeline(records.timeline_of(*timeline), 0)
            raise BackendUnavailable(f'{self._server}: {error}, so that a new timeline begins') from error
        return LayeredReading(
            records.revision_of(number, stamp), since, first, [*map(len, (base, *entries))], layers, members, pins
        )

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        deadline, stamp = self._bulk, drawn_stamp()
        counts = plan.nodes_before, plan.nodes_after, plan.moved, plan.duration_ms
        number, *log = self._run(
            'commit',
            deadline,
            *plan.unpinned,
            *(part for pin in plan.pins for part in (pin.id, records.packed_pin(pin))),
            name=ref.name,
            run=ref.incarnation,
            epoch=guard.epoch,
            **parts_of(guard.timeline),
            version=guard.version.number,
            version_stamp=guard.version.stamp,
            number=plan.number,
            stamp=stamp,
            evictions=json.dumps([[each.ref.name, each.ref.incarnation, str(each.heartbeat)] for each in plan.evictions]),
            departed=json.dumps([[each.name, each.incarnation] for each in plan.departed]),
            absent=json.dumps([[each.name, each.incarnation] for each in plan.absent]),
            entry=packed(plan.groups, plan.members),
            new_members=records.packed_members(plan.members),
            rebalance=records.packed_rebalance(stamp, ref.name, (plan.reason, *counts)) if plan.moved else '',
            unpinned=len(plan.unpinned),
        )
        if is_long(*map(int, log)):
            # The plan is written: what becomes of the log is for this commit to try, and no failure of it.
            with contextlib.suppress(JobsyncError):
                self._fold(deadline)
        return Revision(int(number), stamp)

    def _fold(self, deadline: Deadline) -> None:
        """Write the oldest entries of the log and the base as one base."""
        found = self._read(None, deadline)
        base, *sizes = found.sizes
        entries = entries_to_fold(base, sizes)
        blob = packed(merged(found.layers[: 1 + entries]))
        self._run('compact', deadline, first=found.first, entries=entries, size=sum(sizes[:entries]), blob=blob)

    # Task locks

    def read_locks(self) -> LockReading:
        """See ``Backend.read_locks``."""
        (found,) = self._run('read_locks', self._bulk)
        return records.locks_of(found)

    def edit_locks(self, edit: LockEdit) -> int:
        """See ``Backend.edit_locks``."""
        remove = edit.remove
        tasks = sorted(remove.task_ids) if remove and remove.task_ids is not None else None
        creator = remove.created_by if remove else None
        (gone,) = self._run(
            'edit_locks',
            self._bulk,
            *(tasks or ()),
            *records.packed_requests(edit.put),
            remove='' if remove is None else 'all' if tasks is None else len(tasks),
            created_by='' if creator is None else '+' + creator,
            expired=remove is not None and remove.expired,
            stamp=drawn_stamp(),
        )
        return int(gone)

    # Trails

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_claims``."""
        wanted = dict.fromkeys(items)
        self._run('append_claims', self._bulk, *wanted, name=ref.name, run=ref.incarnation, date=date.isoformat())

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_audits``."""
        self._run('append_audits', self._bulk, *dict.fromkeys(items), name=node, date=date.isoformat())

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        """See ``Backend.history``."""
        most = '' if limit is None else max(limit, 1)
        if kind is HistoryKind.REBALANCE:
            date = item = None
        day = date.isoformat() if date else ''
        (flat,) = self._run('history', self._bulk, kind=kind.value, date=day, item=item or '', limit=most)
        if kind is HistoryKind.REBALANCE:
            return tuple(records.rebalances_of(flat))[:limit]
        claims = kind is HistoryKind.CLAIM
        rows: Iterable[Claim | Audit] = records.records_of(Claim, flat) if claims else records.records_of(Audit, flat)
        found = sorted(rows, key=lambda each: (each.item, each.node))
        found.sort(key=lambda each: each.created_on, reverse=True)
        return tuple(found[:limit])

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """See ``Backend.incomplete``."""
        now, flat = self._run('incomplete', self._bulk, date=date.isoformat() if date else '')
        newest: dict[tuple[str, dt.date], Claim] = {}
        for claim in records.records_of(Claim, flat):
            key = claim.item, claim.date
            newest[key] = max(newest.get(key, claim), claim, key=lambda each: each.created_on)
        before = records.moment(now) - older_than
        old = (claim for claim in newest.values() if claim.created_on <= before)
        return tuple(sorted(old, key=lambda claim: (claim.created_on, claim.item)))

    def purge(self, kind: HistoryKind, before: dt.datetime) -> int:
        """See ``Backend.purge``."""
        (gone,) = self._run('purge', self._bulk, kind=kind.value, before=records.microseconds(before))
        return int(gone)


def parts_of(timeline: Timeline) -> dict[str, object]:
    """A timeline as the scripts compare it."""
    return {'generation': timeline.generation, 'timeline': timeline.id, 'timeline_store': timeline.store}


def drawn_id() -> str:
    """A random id."""
    return os.urandom(16).hex()


def drawn_stamp() -> int:
    """The stamp of a revision."""
    return random.SystemRandom().getrandbits(62) + 1
