"""The assignment of a namespace: read, written by a commit, and folded when its log gets long."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from itertools import chain

from jobsync.backend import Changes, Guard, NodeRef, Pin, Plan, Revision, Timeline
from jobsync.backends._common.audience import Audience
from jobsync.backends._common.concerned import announcement
from jobsync.backends._common.tokens import latest, only
from jobsync.backends._common.values import draw_id, draw_stamp
from jobsync.backends.redis import records
from jobsync.backends.redis.connection import Deadline
from jobsync.backends.redis.history import packed_rebalance
from jobsync.backends.redis.layers import entries_to_fold, is_long, packed, unpacked
from jobsync.backends.redis.namespace import RedisNamespace
from jobsync.errors import BackendUnavailable, JobsyncError

__all__ = ['RedisAssignment']


class RedisAssignment:
    """The assignment in layers. Thread-safe."""

    def __init__(self, namespace: RedisNamespace) -> None:
        self._namespace, self._run = namespace, namespace.run
        self._pins: tuple[bytes, tuple[Pin, ...]] = (b'0:0', ())
        """The pins of the last reading, and their version."""
        self.audience = Audience()

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        known, pins = self._pins
        *timeline, number, stamp, _, all_members, base, entries, version_of_pins, all_pins, missing = self._run(
            'read_assignment', since=records.revision_text(since), pins=known
        )
        with self._renewed_if_spoilt(timeline):
            records.check_complete(missing)
            layers, changed = zip(*map(unpacked, (base, *entries)), strict=True)
            if all_members is not None:
                since, members = None, records.members_of(all_members)
            else:
                members = {name: member for each in changed for name, member in each.items()}
            if all_pins is not None:
                pins = records.pins_of(all_pins)
                self._pins = version_of_pins, pins
        wanted = only(chain.from_iterable(reversed(layers)), tokens)
        groups = latest(wanted) if base or len(entries) > 1 else tuple(wanted)
        return Changes(records.revision_of(number, stamp), since, members, groups, pins)

    @contextlib.contextmanager
    def _renewed_if_spoilt(self, timeline: Sequence[bytes]) -> Iterator[None]:
        """Begin a new timeline, and raise ``BackendUnavailable``, if a part of the assignment is missing or cannot be read."""
        # t=0  node a owns token 42, by a record that a person has changed
        # t=1  a leader that reads on without the record finds token 42 without an owner, and gives it to b
        # Then a and b would both claim. A new timeline waits until every older lease has ended.
        try:
            yield
        except records.SpoiltRecord as error:
            if not self.audience.only_reads:
                self.renew_timeline(records.timeline_of(*timeline), 0)
            raise BackendUnavailable(f'{self._namespace.server}: {error}, {self.audience.what_follows}') from error

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        deadline, stamp = self._namespace.deadline(bulk=True), draw_stamp()
        number, *log = self._run(
            'commit',
            *plan.unpinned,
            *(part for pin in plan.pins for part in (pin.id, records.packed_fields(f'{pin.id}', pin))),
            **records.run_words(ref),
            epoch=guard.epoch,
            **records.timeline_words(guard.timeline),
            version=guard.version.number,
            version_stamp=guard.version.stamp,
            number=plan.number,
            stamp=stamp,
            evictions=json.dumps([[each.ref.name, each.ref.incarnation, str(each.heartbeat)] for each in plan.evictions]),
            departed=json.dumps([[each.name, each.incarnation] for each in plan.departed]),
            absent=json.dumps([[each.name, each.incarnation] for each in plan.absent]),
            entry=packed(plan.groups, plan.members),
            new_members=records.packed_members(plan.members),
            rebalance=packed_rebalance(stamp, ref.name, plan),
            affected=announcement(plan.affected),
            unpinned=len(plan.unpinned),
            deadline=deadline,
        )
        if is_long(*map(int, log)):
            # The plan is written, so a fold that fails is no failure of the commit: a later commit tries again.
            with contextlib.suppress(JobsyncError):
                self._fold(deadline)
        return Revision(int(number), stamp)

    def _fold(self, deadline: Deadline) -> None:
        """Replace the base and the oldest entries of the log by one base."""
        *timeline, _, _, first, _, base, entries, _, _, missing = self._run(
            'read_assignment', since='', pins=self._pins[0], deadline=deadline
        )
        sizes = [*map(len, entries)]
        count = entries_to_fold(len(base), sizes)
        with self._renewed_if_spoilt(timeline):
            records.check_complete(missing)
            blob = packed(latest(chain.from_iterable(unpacked(each)[0] for each in (*reversed(entries[:count]), base))))
        self._run('compact', first=first, entries=count, size=sum(sizes[:count]), blob=blob, deadline=deadline)

    def renew_timeline(self, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        self._run(
            'renew_timeline',
            **records.timeline_words(expected),
            at_least=at_least,
            longest_timeout=float(longest_timeout_sec),
            id=draw_id(),
            stamp=draw_stamp(),
        )
