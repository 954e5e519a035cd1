"""A simulated process: one agent, a clock of its own, and calls that take time and may be lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

import attrs

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.events import LogMessage, OwnershipChanged
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.agent.ownership import Ownership
from jobsync._core.agent.phase import Phase
from jobsync._core.config import NodeConfig
from jobsync._core.hashing import tokenizer
from jobsync._runtime.executor import execute
from jobsync.backend import Backend, Member, NodeRef
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError, NameTaken
from jobsync.testing.simulation.backends import TardyBackend

if TYPE_CHECKING:
    from jobsync.testing.simulation.promises import Promises
    from jobsync.testing.simulation.world import World

__all__ = ['WORK', 'NodeFault', 'SimNode']

WORK = (
    commands.Open, commands.Register, commands.TakeSnapshot, commands.ReadAssignment, commands.ReadLocks,
    commands.AcquireLeadership, commands.PlanAndCommit, commands.DropExpiredLocks, commands.RenewTimeline, commands.SetWeight,
    commands.Deregister, commands.DeclareDead,
)  # fmt: skip
"""Every command of the work lane."""

OP_TIMEOUT_SEC = 5.0
"""How long a node waits for an answer."""
DRIFT = 0.02
"""The most by which a clock is faster or slower than true time. Two clocks stay well within the lease margin."""


@attrs.frozen
class NodeFault:
    """Calls of some kinds that fail or hang while all other calls succeed."""

    kinds: tuple[type[commands.Command], ...]
    """The kinds of calls that it hits."""
    hangs: bool
    """Whether a call returns when the fault is over, instead of failing at once."""
    until: float
    """When the fault is over, in true time."""


@attrs.frozen(eq=False)
class Revocation:
    """A call of ``on_revoke`` that has not returned."""

    incarnation: str
    tokens: frozenset[int]
    deadline: float
    """By the node's clock."""


class SimNode:
    """One process of the simulated cluster."""

    def __init__(self, world: World, config: NodeConfig, judge: Promises, host: int = 0) -> None:
        self._world, self.name, self._judge, self.host = world, config.name, judge, host
        random = world.random
        self._rate = 1 + random.uniform(-DRIFT, DRIFT)
        self._offset = world.now - random.uniform(0, 1000)
        self._is_alive = True
        self.distance_sec = 0.0
        """How many seconds longer each way to the store takes than for other processes."""
        self.paused_until = self.cut_until = self.refused_until = 0.0
        self.fault: NodeFault | None = None
        self._hung: dict[Lane, Callable[[], None]] = {}
        self.has_been_member = False
        self.hinted = 0
        """The revision of the last hint."""
        self.token_of = tokenizer(config.settings.hash_function, config.settings.total_tokens)
        self.agent = Agent(config, self.token_of, world.new_id, self.clock())
        self.working: dict[str, str] = {}
        """Tasks in progress, with the incarnation that began them, or the last that has taken them over."""
        self._lease_of = '', 0.0
        """The last incarnation that had a lease, and its deadline."""
        self.revocations: list[Revocation] = []
        """Calls of ``on_revoke`` that run or are due."""
        self._wakes: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._claims: tuple[Ownership, int] | None = None
        self._repeated: set[str] = set()
        self._members: Mapping[str, Member] = {}
        """The members that it has read, and some of which it watches."""
        self._known_over: set[NodeRef] = set()
        for lane in Lane:
            self.wake(lane, world.now)

    @property
    def alive(self) -> bool:
        """Whether the process has not ended. Set to False, it ends, as by SIGKILL: the others of its host know at once."""
        return self._is_alive

    @alive.setter
    def alive(self, is_alive: bool) -> None:
        if self._is_alive and not is_alive:
            for other in self._world.watches(self):
                self._world.at(self._world.now + 0.01, other.learn_deaths)
        self._is_alive = is_alive

    @property
    def ownership(self) -> Ownership:
        """Return what this process may claim while its lease runs."""
        return self.agent.lease.ownership

    def clock(self) -> float:
        """Return the time that this process's clock shows."""
        return (self._world.now - self._offset) * self._rate

    def true_time(self, clock: float) -> float:
        """Return the true time at which this process's clock shows ``clock``."""
        return clock / self._rate + self._offset

    def has_lease(self) -> bool:
        """Return whether the lease runs at this true instant; a paused process counts, for it may stand between check and act."""
        return self.alive and self.clock() < self.agent.lease.deadline

    # --- the lanes -----------------------------------------------------------------------------------------------------------

    def wake(self, lane: Lane, at: float) -> None:
        """Call ``Agent.next`` for this lane at true time ``at``; a later call of ``wake`` for the lane replaces this one."""
        self._wakes[lane] += 1
        number = self._wakes[lane]
        self._world.at(max(at, self._world.now), lambda: self._turn(lane) if self._wakes[lane] == number else None)

    def _when_awake(self, action: Callable[[], None]) -> bool:
        """Return whether the process is paused; if so, run ``action`` when the pause is over."""
        if self._world.now < self.paused_until:
            self._world.at(min(self.paused_until, self._world.now + 1.0), action)
            return True
        return False

    def _turn(self, lane: Lane) -> None:
        if not self.alive or self._when_awake(lambda: self._turn(lane)):
            return
        answer = self.agent.next(lane, self.clock())
        if isinstance(answer, (int, float)):
            if answer != math.inf:
                self.wake(lane, self.true_time(answer) + 1e-6)
        else:
            self._send(lane, answer)
        self._after_step()

    def _send(self, lane: Lane, call: commands.Command) -> None:
        world = self._world
        out, back = world.latency() + self.distance_sec, world.latency() + self.distance_sec
        if isinstance(call, commands.Register):
            world.take_lock(self, call.node.ref)

        def arrive() -> None:
            if not self.alive and world.random.random() < 0.5:
                return
            fault = self.fault
            if fault is not None and world.now < fault.until and isinstance(call, fault.kinds):
                self._suffer(lane, call, fault)
                return
            if world.now < max(world.down_until, self.cut_until) or world.fails(0.005):
                answer: commands.Reply = BackendUnavailable('the store is away')
            elif world.now < self.refused_until:
                answer = ConfigError('permission denied')
            elif world.now < world.read_only_until:
                answer = self._effect(call, world.backend, refuses_writes=True)
            elif world.fails(0.01):
                answer = self._effect(call, cast('Backend', TardyBackend(world)))
                world.at(world.now + OP_TIMEOUT_SEC, lambda: self._return(lane, answer))
                return
            else:
                answer = self._effect(call, world.backend)
                if world.fails(0.01):
                    answer = BackendUnavailable('the answer was lost')
            world.at(world.now + back, lambda: self._return(lane, answer))

        world.at(world.now + out, arrive)

    def _suffer(self, lane: Lane, call: commands.Command, fault: NodeFault) -> None:
        """Fail the call or let it hang; where it hangs, its effect happens at once or never."""
        world, answer = self._world, cast('commands.Reply', BackendUnavailable('this lane is out of order'))
        if not fault.hangs:
            if isinstance(call, commands.PlanAndCommit):  # a call that needs no commit succeeds
                answer = self._effect(call, world.backend, refuses_writes=True)
            world.at(world.now + world.latency(), lambda: self._return(lane, answer))
            return
        if world.random.random() < 0.3:
            answer = self._effect(call, world.backend)
        hung = self._hung[lane] = partial(self._return, lane, answer)
        world.at(fault.until, lambda: self._release(lane, hung))

    def _release(self, lane: Lane, hung: Callable[[], None]) -> None:
        """Let a call that hangs return, unless it has returned."""
        if self._hung.get(lane) is hung:
            del self._hung[lane]
            hung()

    def heal(self) -> None:
        """End the fault, and let every call that hangs return."""
        self.fault = None
        for lane, hung in list(self._hung.items()):
            self._release(lane, hung)

    def _effect(self, call: commands.Command, backend: Backend, *, refuses_writes: bool = False) -> commands.Reply:
        before, store = self._world.revision(), self._world.store
        store.refuses_writes = refuses_writes
        try:
            answer: commands.Reply = execute(backend, call, self.token_of)
        except JobsyncError as error:
            answer = error
        finally:
            store.refuses_writes = False
        if self._world.revision() != before:
            self._world.announce()
        if isinstance(call, commands.Register) and not isinstance(answer, JobsyncError):
            self._take_over(call.node.ref.incarnation)
        return answer

    def _take_over(self, incarnation: str) -> None:
        """Take over the tasks in progress of the run before this one, which has registered while that still owns them.

        From now on they are its own, as what that run owns is, and may not pass on before they end. A lease that has ended in the
        meantime is none that another node must respect.
        """
        before, deadline = self._lease_of
        for key in self.working if self.clock() < deadline else ():
            if self.working[key] == before and self._world.owner_of(key, self.token_of(key)) == (self.name, before):
                self.working[key] = incarnation

    def _return(self, lane: Lane, answer: commands.Reply) -> None:
        if not self.alive or self._when_awake(lambda: self._return(lane, answer)):
            return
        if isinstance(answer, NameTaken):
            self._learn(answer.record.ref)
        self.agent.done(lane, answer, self.clock())
        for other in Lane:
            self.wake(other, self._world.now)
        self._after_step()

    def hint(self, revision: int) -> None:
        """Receive a change hint."""
        if not self.alive or self._when_awake(lambda: self.hint(revision)):
            return
        self.hinted = max(revision, self.hinted)
        self.agent.hint(revision, self.clock())
        for lane in Lane:
            self.wake(lane, self._world.now)

    def learn_deaths(self) -> None:
        """Learn which members are over, as far as this process's host proves it."""
        if not self.alive or self._when_awake(self.learn_deaths):
            return
        for name, member in self._members.items():
            self._learn(NodeRef(name, member.incarnation))

    def _learn(self, ref: NodeRef) -> None:
        if ref not in self._known_over and self._world.is_over(ref, self.host):
            self._known_over.add(ref)
            self._world.record(f'{self.name}: knows that {ref.name} ({ref.incarnation}) is over')
            self.agent.know_dead(ref)
            self.wake(Lane.WORK, self._world.now)

    def leave(self) -> None:
        """Leave the cluster in good order."""
        if self.alive:
            self.agent.leave(self.clock())
            for lane in Lane:
                self.wake(lane, self._world.now)

    # --- the user's code -----------------------------------------------------------------------------------------------------

    def begin(self, key: str, seconds: float) -> None:
        """Begin a task if this process may claim it, and finish it after ``seconds``."""
        if not self.alive or self._world.now < self.paused_until or key in self.working:
            return
        token = self.token_of(key)
        if self.agent.lease.begin(TaskStart(key), token, self.clock):
            self.working[key] = self.agent.ref.incarnation
            self._judge.check_fence(self, key, self.agent.lease.fence(key, token, self.clock, is_in_flight=True))
            self._world.at(self._world.now + seconds, lambda: self._finish(key))

    def _finish(self, key: str) -> None:
        if not self.alive or self._when_awake(lambda: self._finish(key)):
            return
        self.working.pop(key, None)
        self.agent.lease.finish([TaskStart(key)])
        self.wake(Lane.HEARTBEAT, self._world.now)

    def _revoke(self, change: OwnershipChanged) -> None:
        """Call ``on_revoke``: it returns after a moment, after long, or never."""
        revocation = Revocation(self.agent.ref.incarnation, change.asked, change.deadline)
        self.revocations.append(revocation)
        random = self._world.random
        if self._world.quiet or random.random() < 0.6:
            seconds = random.uniform(0, 0.01)
        else:
            seconds = random.choice([random.uniform(0, 20.0), math.inf])
        if seconds != math.inf:
            self._world.at(self._world.now + seconds, lambda: self._revoked(revocation))
        # A callback that hangs is abandoned at its deadline, and its tokens are released.
        self._world.at(self.true_time(change.deadline), lambda: self._revoked(revocation))

    def _revoked(self, revocation: Revocation) -> None:
        """Release the tokens of an ``on_revoke`` that has returned or is abandoned."""
        if not self.alive or revocation not in self.revocations or self._when_awake(lambda: self._revoked(revocation)):
            return
        self.revocations.remove(revocation)
        self.agent.lease.release(revocation.tokens)
        for lane in Lane:
            self.wake(lane, self._world.now)

    def announced(self, tokens: frozenset[int]) -> frozenset[int]:
        """Return the tokens among these for which ``on_revoke`` runs and has time left.

        A process that leaves has time until the end of its shutdown timeout, even if a callback was given longer before.
        """
        now, mine = self.clock(), self.agent.ref.incarnation
        if self.agent.departure is not None and now >= self.agent.departure.by:
            return frozenset()
        running = [each.tokens for each in self.revocations if each.incarnation == mine and now < each.deadline]
        return tokens & frozenset().union(*running) if running and self.has_lease() else frozenset()

    def weigh(self, weight: float) -> None:
        """Have this weight from now on."""
        self.agent.set_weight(weight)
        self.wake(Lane.WORK, self._world.now)

    def stall(self, is_stalled: bool) -> None:
        """Have this process's code hang, or go on."""
        self.agent.stall(is_stalled)
        self.wake(Lane.WORK, self._world.now)

    def works_on(self, key: str) -> bool:
        """Return whether this process, with a valid lease, works on the task or would claim it now."""
        return bool(self.claims() >> self._world.tasks.index(key) & 1)

    def claims(self) -> int:
        """Return what this process claims at this true instant: a bit for each task, and above these one for each token.

        Each pool has bits of its own (``World.shift``). A task in progress counts, except after the end of the shutdown
        timeout of a process that leaves.
        """
        if not self.has_lease():
            return 0
        world, ownership = self._world, self.ownership
        if self._claims is None or self._claims[0] is not ownership:
            bits = int(''.join(map(str, ownership.mine[::-1])) or '0', 2) << world.shift(len(ownership.mine))
            for number, key in enumerate(world.tasks):
                bits |= ownership.claims(key, self.token_of(key)) << number
            self._claims = ownership, bits
        claimed = self._claims[1]
        if self.working and (self.agent.departure is None or self.clock() < self.agent.departure.by):
            mine = self.agent.ref.incarnation
            for key, incarnation in self.working.items():
                if incarnation == mine:
                    claimed |= 1 << world.tasks.index(key)
        return claimed

    def _after_step(self) -> None:
        if self.has_lease():
            self._lease_of = self.agent.ref.incarnation, self.agent.lease.deadline
        events, self.agent.events = self.agent.events, []
        for event in events:
            if isinstance(event, LogMessage):
                if event.text not in self._repeated:  # of a failure that repeats only the first
                    self._world.record(f'{self.name}: {event.text}')
                self._repeated = {*self._repeated, event.text} if event.level == 'retry' else set()
                continue
            self._judge.check_announced(self, event.gained)
            if event.asked:
                self._revoke(event)
        if self._members is not self.agent.lease.assignment.members:
            self._members = self.agent.lease.assignment.members
            self.learn_deaths()
        self.has_been_member = self.has_been_member or self.agent.phase is Phase.MEMBER
        if self.agent.phase in (Phase.LEFT, Phase.FAILED):
            self.alive = False
            self._judge.check_failure(self)
            self._world.record(f'{self.name}: {self.agent.phase.value}')
        self._judge.check_one_owner(self)
