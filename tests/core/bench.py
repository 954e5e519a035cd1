"""Agents on a memory store, in time that is turned by hand. A call takes a millisecond unless it is caught."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from random import Random
from typing import Any

import attrs
from tests.core.builders import EPOCH, token_of

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.config import NodeConfig
from jobsync._core.records import LockEdit, Node, Revision, Settings
from jobsync._runtime.executor import execute
from jobsync.backends.memory import MemoryBackend
from jobsync.config import CoordinationConfig
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.testing.editable_store import EditableStore

__all__ = ['AWAY', 'TASKS', 'Bench', 'Caught', 'Made']

AWAY = BackendUnavailable('the store is away')
TASKS = ['t0', 't1', 't2', 't3']
"""One for each token of the usual pool."""

_MOST_STEPS = 1000


@attrs.frozen
class Made:
    """A call that was made and not caught."""

    at: float
    agent: Agent
    call: commands.Command
    answer: commands.Reply

    @property
    def reached_store(self) -> bool:
        """Whether the store was asked: a proposal asks it only if there is something to commit."""
        return not isinstance(self.answer, commands.CommitOutcome) or self.answer.plan is not None


@attrs.frozen
class Caught:
    """A call that is kept under way."""

    agent: Agent
    lane: Lane
    call: Any


class Bench:
    """A store, a clock, and any number of agents on them."""

    def __init__(self, tokens: int = 4, *, durable: bool = True, push: bool = True) -> None:
        self.now = 0.0
        self.settings = Settings(tokens, 'xxh3')
        self.store = EditableStore(lambda: EPOCH + dt.timedelta(seconds=self.now), Random(1), 'store', durable=durable)
        self.backend = MemoryBackend(self.store)
        self.push = push
        self._numbers = itertools.count(1)
        self.call_sec = 0.001
        """How long a call takes."""
        self.agents: list[Agent] = []
        self.cut: set[tuple[Agent, Lane]] = set()
        """Lanes in which the store is out of reach."""
        self.fault: Callable[[Agent, commands.Command], JobsyncError | None] = lambda agent, call: None
        """With what error a call fails that does not reach the store; None lets it through."""
        self.made: list[Made] = []
        self._ids = itertools.count(1)
        self._traps: list[tuple[Agent, type[Any]]] = []
        self._caught: list[Caught] = []

    def start(self, name: str, **changes: Any) -> Agent:
        """Another agent, from now on, with these changes of its ``CoordinationConfig`` or ``NodeConfig``.

        No cluster waits to form, and a node that leaves waits for nothing, unless the changes say so.
        """
        coordination = {
            key: changes.pop(key) for key in [*changes] if key != 'host' and key in attrs.fields_dict(CoordinationConfig)
        }
        given = {
            'name': name,
            'settings': self.settings,
            'wait_on_enter': 0.0,
            'host': f'host of {name}',
            'pid': 1,
            'create': True,
            'announces': False,
            **changes,
        }
        config = NodeConfig.of(
            CoordinationConfig(**{'shutdown_timeout_sec': 0.0, **coordination}),
            self.backend.info,
            **given,
        )
        agent = Agent(config, token_of, lambda: f'run{next(self._ids)}', self.now)
        self.agents.append(agent)
        return agent

    def kill(self, agent: Agent) -> None:
        """The agent's process dies."""
        self.agents.remove(agent)

    def cut_off(self, agent: Agent) -> None:
        """The agent cannot reach the store any more."""
        self.cut.update((agent, lane) for lane in Lane)

    def cluster(self, *names: str, **changes: Any) -> list[Agent]:
        """Agents of these names that have settled, the first of them leading."""
        agents = []
        for name in names:
            agents.append(self.start(name, **changes))
            self.run(3.0)
        self.run(20.0)
        assert all(agent.is_settled for agent in agents)
        return agents

    def clock(self) -> float:
        """What every node's clock shows."""
        return self.now

    def claims(self, agent: Agent, *keys: str) -> list[bool]:
        """Whether the agent may claim these tasks now."""
        return [agent.lease.may_claim(key, token_of(key), self.clock) for key in keys]

    def begin(self, agent: Agent, *keys: str) -> list[bool]:
        """Begin these tasks now, those that the agent may."""
        return [agent.lease.begin(TaskStart(key, number=next(self._numbers)), token_of(key), self.clock) for key in keys]

    # --- what the store has ----------------------------------------------------------------------------------------------

    def record(self, name: str) -> Node:
        """A node's record."""
        (found,) = [node for node in self.backend.snapshot().nodes if node.name == name]
        return found

    @property
    def leader(self) -> str | None:
        """The name of the node that leads."""
        node = self.backend.snapshot().leadership.node
        return node.name if node else None

    # --- the course of time ----------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self._go_on(self.now + seconds, lambda: False)

    def run_until(self, condition: Callable[[], bool], within: float = 60.0) -> None:
        """Let time pass until something is so, and no longer."""
        self._go_on(self.now + within, condition)
        assert condition()

    def catch(self, agent: Agent, kind: type[Any], within: float = 60.0) -> Caught:
        """Let time pass until the agent makes a call of this kind, and keep that from the store."""
        trap = (agent, kind)
        self._traps.append(trap)
        before = len(self._caught)
        self._go_on(self.now + within, lambda: len(self._caught) > before)
        assert len(self._caught) > before, f'no {kind.__name__} within {within} s'
        self._traps.remove(trap)
        return self._caught[-1]

    def perform(self, call: commands.Command) -> commands.Reply:
        """What the store makes of a call: an answer, or an error."""
        before = self._revision()
        try:
            answer: commands.Reply = execute(self.backend, call, token_of)
        except JobsyncError as error:
            answer = error
        self._announce(before)
        return answer

    def edit_locks(self, edit: LockEdit) -> None:
        """Somebody who is no agent edits the task locks."""
        before = self._revision()
        self.backend.edit_locks(edit)
        self._announce(before)

    def answer(self, caught: Caught, answer: commands.Reply) -> None:
        """Bring a caught call's answer back now."""
        caught.agent.done(caught.lane, answer, self.now)

    def deliver(self, caught: Caught) -> None:
        """Let a caught call reach the store and come back now."""
        self.answer(caught, self.perform(caught.call))

    def _announce(self, before: Revision | None) -> None:
        if self.push and self._revision() != before:
            hint = self.store.concerned['sync_'].hint(
                self.backend.snapshot().revision.number, 0 if before is None else before.number
            )
            for agent in self.agents:
                agent.hint(hint, self.now)

    def _revision(self) -> Revision | None:
        space = self.store.spaces.get('sync_')
        return space.state.revision if space else None

    def _go_on(self, end: float, enough: Callable[[], bool]) -> None:
        for _ in range(100 * _MOST_STEPS):
            wake = self._settle(enough)
            if enough():
                return
            if wake > end:
                self.now = max(end, self.now)
                return
            assert wake > self.now, 'an agent asks for a time that is past'
            self.now = wake
        raise AssertionError('time does not pass')

    def _settle(self, enough: Callable[[], bool]) -> float:
        """Make every call that is due now; when the next one is."""
        for _ in range(_MOST_STEPS):
            wakes = [float('inf')]
            made = False
            for agent, lane in [(agent, lane) for agent in self.agents for lane in Lane]:
                if enough():
                    return self.now
                asked = agent.next(lane, self.now)
                if isinstance(asked, (int, float)):
                    wakes.append(asked)
                else:
                    made = True
                    self._make(agent, lane, asked)
            if not made:
                return min(wakes)
        raise AssertionError(f'agents are never done at {self.now}')

    def _make(self, agent: Agent, lane: Lane, call: commands.Command) -> None:
        if any(agent is trapped and isinstance(call, kind) for trapped, kind in self._traps):
            self._caught.append(Caught(agent, lane, call))
            return
        made_at = self.now
        answer: commands.Reply = AWAY if (agent, lane) in self.cut else self.fault(agent, call)
        if answer is None:
            answer = self.perform(call)
        self.now += self.call_sec
        self.made.append(Made(made_at, agent, call, answer))
        agent.done(lane, answer, self.now)
