"""Rule R5's comparison of the revision, by itself: of the simulator's storms one in thousands shows its lack."""

from __future__ import annotations

import contextlib
from typing import Any

from tests.core.bench import AWAY, TASKS, Bench
from tests.simulation.broken_rules import r5_revision_not_compared

from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.core.model import Guard, NodeRef, Revision
from jobsync.core.tokens import Plan
from jobsync.errors import Conflict


class TardyBackend(MemoryBackend):
    """Carries out the first commit that gives a node tokens long after whoever asked for it has given up waiting."""

    def __init__(self, store: MemoryStore, owner: str) -> None:
        super().__init__(store)
        self._owner = owner
        self.late: tuple[NodeRef, Plan, Guard] | None = None

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        if self.late is None and any(group.owner == self._owner for group in plan.groups):
            self.late = ref, plan, guard
            raise AWAY
        return super().commit(ref, plan, guard)


def most_owners() -> int:
    """How many nodes may claim one task after a commit has arrived that others have overtaken.

    t=0  the leader gives tokens that have been let go of to the newcomer ``c``; that commit gets no answer
    t=1  it plans the same again and commits it: ``c`` owns them
    t=2  ``c`` is drained, lets go of them, and others own them
    t=3  the first commit arrives; all that is in it (timeline, epoch, leader, members) is as it was, but for the revision
    t=4  ``c`` reads that it owns them, sooner than the others read that they do not
    """
    bench = Bench()
    bench.backend = backend = TardyBackend(bench.store, 'c')
    bench.cluster('a', 'b')
    newcomer = bench.start('c')
    bench.run_until(lambda: backend.late is not None)
    assert newcomer.tenure.ownership.is_empty
    bench.run_until(lambda: newcomer.is_settled and not newcomer.tenure.ownership.is_empty)
    newcomer.weigh(0.0)
    bench.run(10.0)
    assert newcomer.tenure.ownership.is_empty
    assert [sum(owners) for owners in claims(bench)] == [1] * len(TASKS)
    late: Any = backend.late
    with contextlib.suppress(Conflict):
        backend.commit(*late)
    newcomer.hint(backend.snapshot().revision.number, bench.now)
    bench.run(0.1)
    return max(sum(owners) for owners in claims(bench))


def claims(bench: Bench) -> list[tuple[bool, ...]]:
    """For each task, which of the agents may claim it."""
    return list(zip(*(bench.claims(agent, *TASKS) for agent in bench.agents), strict=True))


def test_a_commit_that_was_overtaken_is_refused() -> None:
    """A plan is good for the revision that it was made from, and for no other."""
    assert most_owners() == 1


def test_a_revision_that_is_not_compared_makes_two_owners() -> None:
    """What the comparison is for: without it the same scene ends with two."""
    with r5_revision_not_compared():
        assert most_owners() == 2
