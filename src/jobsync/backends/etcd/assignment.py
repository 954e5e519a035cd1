"""The assignment: a chunked log that the leader's commits append to (rule R5)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator

import attrs

from jobsync.backend import INITIAL, Changes, Guard, HistoryKind, NodeRef, Pin, Plan, Revision, Timeline, check_guard, check_nodes
from jobsync.backends._common.audience import Audience
from jobsync.backends._common.tokens import latest, only
from jobsync.backends._common.values import next_revision
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.assignment_record import (
    AssignmentRecord,
    SpoiltAssignment,
    decoded,
    encoded,
    latest_members,
    pins_after,
    whole,
)
from jobsync.backends.etcd.chunked_log import Draft
from jobsync.backends.etcd.json_form import to_json
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.store import EtcdStore, EtcdWrite
from jobsync.errors import BackendUnavailable

__all__ = ['MOST_REMOVALS', 'EtcdAssignment']

MOST_REMOVALS = 100
"""Nodes in one plan. A transaction takes 128 operations and as many comparisons. Each eviction needs one of each."""


class EtcdAssignment:
    """Reads the assignment and commits to it. Thread-safe."""

    def __init__(self, store: EtcdStore, renew_timeline: Callable[[Timeline, int], None]) -> None:
        self._store, self._renew_timeline = store, renew_timeline
        self._pins: tuple[Revision, tuple[Pin, ...]] = INITIAL, ()
        """All pins as last read, and their version: most readings then need the last records only."""
        self.audience = Audience()

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        deadline = self._store.later()
        with self._renewed_if_spoilt():
            return self._store.with_state(lambda reading: self._changes(reading, since, tokens, deadline), deadline)

    @contextlib.contextmanager
    def _renewed_if_spoilt(self) -> Iterator[None]:
        """Begin a new timeline, and raise ``BackendUnavailable``, if a part of the assignment is missing or cannot be read."""
        # t=0  a person deletes a record of the assignment: members that have read it go on
        # t=1  a member dies, and its tokens are given to a newcomer, which must read every record
        # Without a new timeline no newcomer would ever own what it is given, and no leader could write the whole anew.
        try:
            yield
        except SpoiltAssignment as error:
            if not self.audience.only_reads:
                self._renew_timeline(error.timeline, 0)
            raise BackendUnavailable(f'{error}, {self.audience.what_follows}') from error

    def _changes(self, reading: KeyReading, since: Revision | None, tokens: Collection[int] | None, deadline: float) -> Changes:
        log, version, (known, pins) = reading.state.assignment, reading.state.version, self._pins
        start, pins_start = log.after(since), log.after(known)
        first = min(start, pins_start)
        records = self._records(reading, first, deadline)
        pins = pins_after(pins if pins_start else (), records[pins_start - first :])
        self._pins = version, pins
        later = records[start - first :]
        wanted = only((group for record in reversed(later) for group in record.groups), tokens)
        groups = latest(wanted) if len(later) > 1 else tuple(wanted)
        return Changes(version, since if start else None, latest_members(later, drop_gone=not start), groups, pins)

    def _records(self, reading: KeyReading, first: int, deadline: float) -> list[AssignmentRecord]:
        """Return the records of the log from ``first`` on."""
        prefix, entries = self._store.keys.tokens, reading.state.assignment.entries[first:]
        contents = self._store.records(prefix, entries, reading.at, deadline)
        if None in contents:
            found = f'a part of the namespace {self._store.keys.namespace!r} is missing: it was deleted manually'
            raise SpoiltAssignment(found, reading.state.timeline)
        try:
            return [
                decoded(data or b'') if entry.size else AssignmentRecord() for entry, data in zip(entries, contents, strict=True)
            ]
        except ValueError as error:
            raise SpoiltAssignment(str(error), reading.state.timeline) from error

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        store, keys, deadline = self._store, self._store.keys, self._store.later()
        store.read_time(deadline)
        leader_key = keys.node(ref.name)
        dead = [keys.node(eviction.ref.name) for eviction in plan.evictions]
        gone = [*dead, *(keys.node(departed.name) for departed in plan.departed)]
        named = dict.fromkeys([leader_key, *gone, *(keys.node(absent.name) for absent in plan.absent)])
        rebalance = [to_json(plan.rebalance(ref.name, store.time.earliest()))] if plan.is_recorded else []
        draft: Draft | None = None

        def decide(reading: KeyReading) -> tuple[Revision, bytes] | EtcdWrite[tuple[Revision, bytes]]:
            nonlocal draft
            leader, state = reading.joined(ref), reading.state
            check_guard(
                ref,
                guard,
                is_joined=True,
                leadership=state.leadership,
                timeline=state.timeline,
                store=reading.cluster,
                version=state.version,
            )
            check_nodes(plan, reading.node)
            draft = draft or self._draft(reading, plan, deadline)
            revision = next_revision(state.revision, plan.number - 1)
            value = attrs.evolve(leader, node=attrs.evolve(leader.node, heartbeat=leader.node.heartbeat + 1)).encoded()
            log = draft.appended(revision)
            after = attrs.evolve(state, revision=revision, version=revision, assignment=log)
            operations = [*store.put_state(after, plan.affected), *draft.clean_up()]
            operations += [requests.delete(key) for key in gone]
            operations += [requests.put(leader_key, value)] * (leader_key not in gone)
            name = keys.history(HistoryKind.REBALANCE) + b'%016x-%016x/000000' % (revision.number, revision.stamp)
            operations += [requests.put(name, value) for value in rebalance]
            # t=0  the leader reads that node b has not sent a heartbeat for its timeout, and plans to evict it
            # t=1  node b sends a heartbeat, which changes its own record and not the state
            # t=2  the commit arrives
            # So each evicted node's record is compared beside the state: the heartbeat came first, and b stays.
            alive = [requests.unwritten(key, reading.at) for key in dead]
            compares = [reading.same(keys.state), reading.same(leader_key), *alive]
            return EtcdWrite(compares, operations, (revision, value), draft.records)

        wanted = [requests.get(keys.state), *map(requests.get, named)]
        with self._renewed_if_spoilt():
            (revision, value), _ = store.change(wanted, decide, deadline)
        store.remember(leader_key, value)
        return revision

    def _draft(self, reading: KeyReading, plan: Plan, deadline: float) -> Draft:
        """Return the record to append. The guard fixes the version that the record builds on, so one serves all attempts."""
        log, prefix = reading.state.assignment, self._store.keys.tokens
        change = encoded(AssignmentRecord(plan.members, plan.groups, plan.pins, plan.unpinned))
        if not log.is_long:
            return log.draft(prefix, change)
        outdated = self._records(reading, 0, deadline)[: log.outdated]
        return log.draft_rewritten(prefix, change, encoded(whole(outdated)))
