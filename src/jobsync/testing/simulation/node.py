"""A simulated process: one agent, a clock of its own, and calls that take time and may come to nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import attrs

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent, Phase
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.config import AgentConfig
from jobsync._core.agent.events import LogMessage, OwnershipChanged
from jobsync._core.agent.ownership import Ownership
from jobsync._core.hashing import tokenizer
from jobsync._runtime.executor import execute
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError
from jobsync.testing.simulation.store import TardyStore

if TYPE_CHECKING:
    from jobsync.backend import Backend
    from jobsync.testing.simulation.world import World

__all__ = ['Fault', 'SimNode']

OP_TIMEOUT_SEC = 5.0
"""When a node gives up waiting for an answer."""
DRIFT = 0.02
"""Clocks run at rates up to this far from the true one: two of them well within the lease margin."""


@attrs.frozen
class Fault:
    """One lane of a process in which calls fail or hang while the other lane works."""

    kinds: tuple[type[commands.Command], ...]
    """The calls concerned."""
    hangs: bool
    """The call returns when the fault is over, rather than failing at once."""
    until: float
    """On the true clock."""


@attrs.frozen(eq=False)
class Telling:
    """A call of ``on_revoke`` that has not returned."""

    incarnation: str
    tokens: frozenset[int]
    deadline: float
    """On the node's clock."""


class SimNode:
    """One process of the simulated cluster."""

    def __init__(self, world: World, config: AgentConfig) -> None:
        self.world, self.name = world, config.name
        random = world.random
        self._rate = 1 + random.uniform(-DRIFT, DRIFT)
        self._offset = world.now - random.uniform(0, 1000)
        self.alive = True
        self.paused_until = self.cut_until = self.refused_until = 0.0
        self.fault: Fault | None = None
        self._hung: dict[Lane, Callable[[], None]] = {}
        self.has_been_member = False
        self.token_of = tokenizer(config.settings.hash_function, config.settings.total_tokens)
        self.agent = Agent(config, self.token_of, world.new_id, self.clock())
        self.working: dict[str, str] = {}
        """Tasks being worked on, with the incarnation that began them."""
        self.telling: list[Telling] = []
        """What the user is being told, or has yet to hear."""
        self._wakes: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._claims: tuple[Ownership, int] | None = None
        self._repeated: set[str] = set()
        for lane in Lane:
            self.wake(lane, world.now)

    @property
    def ownership(self) -> Ownership:
        """What it may claim while its lease runs."""
        return self.agent.lease.ownership

    def clock(self) -> float:
        """What this process's clock shows now."""
        return (self.world.now - self._offset) * self._rate

    def true_time(self, clock: float) -> float:
        """When this process's clock will show ``clock``."""
        return clock / self._rate + self._offset

    def has_lease(self) -> bool:
        """Whether the lease runs at this true instant; a paused process counts, for it may stand between check and act."""
        return self.alive and self.clock() < self.agent.lease.deadline

    # --- the lanes -----------------------------------------------------------------------------------------------------------

    def wake(self, lane: Lane, at: float) -> None:
        """Ask the agent at true time ``at`` what to do next in this lane; the latest such wish stands."""
        self._wakes[lane] += 1
        number = self._wakes[lane]
        self.world.at(max(at, self.world.now), lambda: self._turn(lane) if self._wakes[lane] == number else None)

    def _when_awake(self, action: Callable[[], None]) -> bool:
        """Run ``action`` when the pause is over, if there is one; say whether there is."""
        if self.world.now < self.paused_until:
            self.world.at(min(self.paused_until, self.world.now + 1.0), action)
            return True
        return False

    def _turn(self, lane: Lane) -> None:
        if not self.alive or self._when_awake(lambda: self._turn(lane)):
            return
        answer = self.agent.next(lane, self.clock())
        if answer is None:
            pass
        elif isinstance(answer, (int, float)):
            if answer != float('inf'):
                self.wake(lane, self.true_time(answer) + 1e-6)
        else:
            self._send(lane, answer)
        self._after_step()

    def _send(self, lane: Lane, call: commands.Command) -> None:
        world = self.world
        out, back = world.latency(), world.latency()

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
                answer = self._effect(call, cast('Backend', TardyStore(world)))
                world.at(world.now + OP_TIMEOUT_SEC, lambda: self._return(lane, answer))
                return
            else:
                answer = self._effect(call, world.backend)
                if world.fails(0.01):
                    answer = BackendUnavailable('the answer was lost')
            world.at(world.now + back, lambda: self._return(lane, answer))

        world.at(world.now + out, arrive)

    def _suffer(self, lane: Lane, call: commands.Command, fault: Fault) -> None:
        """Let the call fail, or hang: what it asks for happens at once, at the end, or never."""
        world, answer = self.world, cast('commands.Reply', BackendUnavailable('this lane is out of order'))
        if not fault.hangs:
            if isinstance(call, commands.PlanAndCommit):  # a plan is refused, and what needs no commit succeeds
                answer = self._effect(call, world.backend, refuses_writes=True)
            world.at(world.now + world.latency(), lambda: self._return(lane, answer))
            return
        if world.random.random() < 0.3:
            answer = self._effect(call, world.backend)
        hung = self._hung[lane] = partial(self._return, lane, answer)
        world.at(fault.until, lambda: self._release(lane, hung))

    def _release(self, lane: Lane, hung: Callable[[], None]) -> None:
        """Let a call that hangs return, unless it has."""
        if self._hung.get(lane) is hung:
            del self._hung[lane]
            hung()

    def heal(self) -> None:
        """End what is wrong with a lane."""
        self.fault = None
        for lane, hung in list(self._hung.items()):
            self._release(lane, hung)

    def _effect(self, call: commands.Command, backend: Backend, *, refuses_writes: bool = False) -> commands.Reply:
        before, store = self.world.revision(), self.world.store
        store.refuses_writes = refuses_writes
        try:
            answer: commands.Reply = execute(backend, call, self.token_of)
        except JobsyncError as error:
            answer = error
        finally:
            store.refuses_writes = False
        if self.world.revision() != before:
            self.world.announce()
        return answer

    def _return(self, lane: Lane, answer: commands.Reply) -> None:
        if not self.alive or self._when_awake(lambda: self._return(lane, answer)):
            return
        self.agent.done(lane, answer, self.clock())
        for other in Lane:
            self.wake(other, self.world.now)
        self._after_step()

    def hint(self, revision: int) -> None:
        """The change hint, when it arrives."""
        if not self.alive or self._when_awake(lambda: self.hint(revision)):
            return
        self.agent.hint(revision, self.clock())
        for lane in Lane:
            self.wake(lane, self.world.now)

    def leave(self) -> None:
        """Leave the cluster in good order."""
        if self.alive:
            self.agent.leave(self.clock())
            for lane in Lane:
                self.wake(lane, self.world.now)

    # --- the user's part -----------------------------------------------------------------------------------------------------

    def begin(self, key: str, seconds: float) -> None:
        """Begin a task if it is ours, and be busy with it for a while."""
        if not self.alive or self.world.now < self.paused_until or key in self.working:
            return
        token = self.token_of(key)
        if self.agent.lease.begin(key, token, self.clock):
            self.working[key] = self.agent.ref.incarnation
            self.world.promises.check_fence(self, key, self.agent.lease.fence(key, token, self.clock))
            self.world.at(self.world.now + seconds, lambda: self._finish(key))

    def _finish(self, key: str) -> None:
        if not self.alive or self._when_awake(lambda: self._finish(key)):
            return
        self.working.pop(key, None)
        self.agent.lease.finish([key])
        self.wake(Lane.HEARTBEAT, self.world.now)

    def _tell(self, change: OwnershipChanged) -> None:
        """The user is told that tokens go: it takes a moment, or long, or he never returns."""
        telling = Telling(self.agent.ref.incarnation, change.asked, change.deadline)
        self.telling.append(telling)
        random = self.world.random
        if self.world.quiet or random.random() < 0.6:
            seconds = random.uniform(0, 0.01)
        else:
            seconds = random.choice([random.uniform(0, 20.0), float('inf')])
        if seconds != float('inf'):
            self.world.at(self.world.now + seconds, lambda: self._told(telling))
        # Whoever hangs is given up at the deadline, and what he held is released.
        self.world.at(self.true_time(change.deadline), lambda: self._told(telling))

    def _told(self, telling: Telling) -> None:
        if not self.alive or telling not in self.telling or self._when_awake(lambda: self._told(telling)):
            return
        self.telling.remove(telling)
        self.agent.lease.release(telling.tokens)
        for lane in Lane:
            self.wake(lane, self.world.now)

    def is_telling(self, tokens: frozenset[int]) -> frozenset[int]:
        """Those of the tokens that the user of this process still has time to give up.

        Whoever leaves has until the end of the shutdown timeout, even if he was given longer before.
        """
        now, mine = self.clock(), self.agent.ref.incarnation
        if self.agent.leave_by is not None and now >= self.agent.leave_by:
            return frozenset()
        told = [telling.tokens for telling in self.telling if telling.incarnation == mine and now < telling.deadline]
        return tokens & frozenset().union(*told) if told and self.has_lease() else frozenset()

    def weigh(self, weight: float) -> None:
        """Have another weight from now on."""
        self.agent.weigh(weight)
        self.wake(Lane.WORK, self.world.now)

    def works_on(self, key: str) -> bool:
        """Whether this process, with a valid lease, has the task in hand or would claim it now."""
        return bool(self.claims() >> self.world.tasks.index(key) & 1)

    def claims(self) -> int:
        """Return all that this process claims at this true instant: a bit for each task, and above these one for each token.

        Each pool has tokens of its own. A process that leaves has to have stopped its tasks by the end of its shutdown timeout,
        ready or not.
        """
        if not self.has_lease():
            return 0
        world, ownership = self.world, self.ownership
        if self._claims is None or self._claims[0] is not ownership:
            bits = int(''.join(map(str, ownership.mine[::-1])) or '0', 2) << world.shift(len(ownership.mine))
            for number, key in enumerate(world.tasks):
                bits |= ownership.claims(key, self.token_of(key)) << number
            self._claims = ownership, bits
        claimed = self._claims[1]
        if self.working and (self.agent.leave_by is None or self.clock() < self.agent.leave_by):
            mine = self.agent.ref.incarnation
            for key, incarnation in self.working.items():
                if incarnation == mine:
                    claimed |= 1 << world.tasks.index(key)
        return claimed

    def _after_step(self) -> None:
        events, self.agent.events = self.agent.events, []
        for event in events:
            if isinstance(event, LogMessage):
                if event.text not in self._repeated:  # of calls that fail again and again the first of each kind
                    self.world.record(f'{self.name}: {event.text}')
                self._repeated = {*self._repeated, event.text} if event.level == 'retry' else set()
                continue
            self.world.promises.check_told(self, event.gained)
            if event.asked:
                self._tell(event)
        self.has_been_member = self.has_been_member or self.agent.phase is Phase.MEMBER
        if self.agent.phase in (Phase.LEFT, Phase.FAILED):
            self.alive = False
            self.world.promises.check_failure(self)
            self.world.record(f'{self.name}: {self.agent.phase.value}')
        self.world.promises.check_one_owner(self)
