"""Mends taken out of the shipped code, for the time of a ``with`` block: what the scheduler must be able to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import attrs
from tests.support.patching import patched

from jobsync import _event_log
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.in_flight import InFlight, TaskStart
from jobsync._core.agent.lease import Clock, Lease
from jobsync._core.agent.membership import Membership
from jobsync._core.assignment import Assignment
from jobsync._core.records import NodeRef
from jobsync._worker.singleton import TurnBase
from jobsync._worker.task_log import TaskLog
from jobsync._worker.ticks import Tick, TickRecord

if TYPE_CHECKING:
    from tests.scheduled.world import World

__all__ = ['BREAKS']


@contextmanager
def clock_read_before_the_grant(world: World) -> Iterator[None]:
    """``claim`` and ``add_task`` read the clock first, and what the lease allows afterwards."""

    def early(method: Callable[..., Any]) -> Callable[..., Any]:
        def answer(self: Lease, what: Any, *args: Any) -> Any:
            clock = next(each for each in args if callable(each))
            moment = clock()
            world.host.step()
            return method(self, what, *((lambda: moment) if each is clock else each for each in args))

        return answer

    with ExitStack() as stack:
        for name in ('begin', 'ours', 'holds_lease'):
            stack.enter_context(patched(Lease, name, early(vars(Lease)[name])))
        yield


def lanes_that_log(world: World) -> AbstractContextManager[None]:
    """The threads of a node hand their lines to ``logging`` themselves, and wait for it."""

    def log(self: Any, level: int, text: str, *values: object, error: BaseException | None = None) -> None:
        thread = vars(_event_log)['threading'].current_thread()
        _event_log._hand_over(self.name, level, text, values, error, 0.0, thread.ident, thread.name)

    return patched(_event_log.EventLogger, 'log', log)


def lanes_that_wait_for_lost_calls(world: World) -> AbstractContextManager[None]:
    """A call that was never made, because of an unexpected error, counts as under way."""
    return patched(Agent, 'give_up', lambda *_: None)


def lease_from_the_answer(world: World) -> AbstractContextManager[None]:
    """The lease is counted from the answer of a heartbeat, and not from before it was sent."""
    take = Membership._take_pulse

    def from_answer(self: Membership, issued: Any, call: Any, pulse: Any, now: float) -> None:
        take(self, attrs.evolve(issued, at=now), call, pulse, now)

    return patched(Membership, '_take_pulse', from_answer)


def starts_noted_late(world: World) -> AbstractContextManager[None]:
    """A thread that begins a task notes the start only after it has read what the node owns."""

    def begin(self: Lease, start: TaskStart, token: int, clock: Clock) -> bool:
        is_ours = self.may_claim(start.key, token, clock)
        world.host.step()
        if is_ours:
            self.in_flight[start] = None
        return is_ours

    return patched(Lease, 'begin', begin)


def finished_tasks_pass_on(world: World) -> AbstractContextManager[None]:
    """A node gives a token away while the completion of one of its tasks is not recorded yet."""
    return patched(Lease, 'unrecorded', property(lambda self: {}))


def claims_of_an_earlier_run(world: World) -> AbstractContextManager[None]:
    """A task that an earlier run of the node has claimed is started by the present one."""
    start = TaskLog.start_claimed

    def of_any_run(self: TaskLog, key: str, token: int, claimed: Any) -> TaskStart | None:
        runtime = self.session.runtime
        present = claimed if claimed is None or runtime is None else attrs.evolve(claimed, run=runtime.agent.ref)
        return start(self, key, token, present)

    return patched(TaskLog, 'start_claimed', of_any_run)


def ticks_complete_without_a_claim(world: World) -> AbstractContextManager[None]:
    """A tick is recorded as complete without a claim of its end, which the store would refuse to a run that is over."""

    def record(self: TickRecord, ref: Any) -> bool:
        self._session.needed_backend.append_audits(self._session.node_name, [self._item], self._date)
        return True

    return patched(TickRecord, '_record_complete', record)


def ticks_begin_without_a_fence(world: World) -> AbstractContextManager[None]:
    """A tick is begun whose place had passed on before the tick was made, so that it has no fence."""
    keeps = Lease.keeps

    def keep(self: Lease, key: str, token: int, fence: int | None, clock: Any) -> bool:
        if fence is not None:
            return keeps(self, key, token, fence, clock)
        return self.assignment.fence(self.ref, key, token) is None and clock() < self.deadline

    return patched(Lease, 'keeps', keep)


def ticks_begin_without_their_place(world: World) -> AbstractContextManager[None]:
    """A tick is begun once it is claimed, though its schedule may have passed on meanwhile."""
    holds_place = TurnBase.holds_place
    return patched(TurnBase, 'holds_place', lambda self: isinstance(self, Tick) or holds_place(self))


def announcements_end_with_their_run(world: World) -> AbstractContextManager[None]:
    """The tokens of an ``on_revoke`` that runs are not held by the node's next run."""
    begin_session = InFlight.begin_session

    def begin(self: InFlight) -> None:
        self._announced.clear()
        begin_session(self)

    return patched(InFlight, 'begin_session', begin)


def tasks_of_an_evicted_run_are_not_held(world: World) -> AbstractContextManager[None]:
    """A node reports no token as held as long as the plan has an earlier run of it."""
    holding = InFlight.holding

    def hold(self: InFlight, assignment: Assignment, ref: NodeRef, now: float) -> frozenset[int]:
        member = assignment.members.get(ref.name)
        is_planned = member is not None and member.incarnation == ref.incarnation
        return holding(self, assignment if is_planned else Assignment.empty(assignment.total_tokens), ref, now)

    return patched(InFlight, 'holding', hold)


BREAKS: dict[str, Callable[[World], AbstractContextManager[None]]] = {
    each.__name__: each
    for each in (
        announcements_end_with_their_run,
        starts_noted_late,
        claims_of_an_earlier_run,
        clock_read_before_the_grant,
        finished_tasks_pass_on,
        lanes_that_log,
        lanes_that_wait_for_lost_calls,
        lease_from_the_answer,
        tasks_of_an_evicted_run_are_not_held,
        ticks_begin_without_a_fence,
        ticks_begin_without_their_place,
        ticks_complete_without_a_claim,
    )
}
