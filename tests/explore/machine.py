"""The steps of one process and of the store, each worked out once by the core's own code and remembered.

A step of a process depends on its own state and on the reply that it gets, and a reply on the store and the call. So the steps
of a cluster, of which there are many millions, are made of some ten thousand steps of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import attrs
from tests.explore.codec import Codec
from tests.explore.stores import Commit, StoreTerms
from tests.explore.terms import Count, Numbers, Term, Terms, Time, recounted
from tests.explore.worlds import SETTINGS, TOKEN_OF, World

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.agent.phase import Phase
from jobsync._core.assignment import Plan
from jobsync._core.records import INITIAL, Guard, NodeRef, Revision
from jobsync._runtime.executor import execute
from jobsync.errors import BackendUnavailable

__all__ = ['LANES', 'Machine', 'Process']

LANES = (Lane.HEARTBEAT, Lane.WORK)
_MOST_TURNS = 12
"""How often a process decides without a call before that counts as going round in circles."""


@attrs.frozen(eq=False)
class Process:
    """One process, as far as its state goes. Equal processes are one object."""

    key: str
    """Which process of the world it is."""
    agent: Term | None
    """None before it was started, and once it is dead."""
    was_started: bool = False
    is_paused: bool = False
    fails: str = ''
    """Which of its calls fail."""
    under_way: tuple[Any, Any] = (None, None)
    """For each lane the call that is under way, ``('out', term)``, or the reply to it, ``('back', term)``."""
    orphans: tuple[Term, ...] = ()
    """Calls that the process has given up and the store may still carry out."""
    steady: int = 0
    """For how many ticks its clock may not fall behind again."""


_values: Callable[[Process], tuple[Any, ...]] = attrgetter(*attrs.fields_dict(Process))
_PLACE = {name: place for place, name in enumerate(attrs.fields_dict(Process))}
_AGENT, _IS_PAUSED = _PLACE['agent'], _PLACE['is_paused']


@attrs.frozen
class Turn:
    """A call that a process makes next in a lane."""

    lane: int
    issued: Term
    """The agent once it has made the call."""
    command: Term
    kind: str
    """``heartbeat``, ``commit``, or ``work``."""


class _NoCommit:
    """A backend that takes a commit for ``decide`` and does not carry it out."""

    def __init__(self) -> None:
        self.taken: tuple[NodeRef, Plan, Guard] | None = None

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        self.taken = ref, plan, guard
        return INITIAL


class Machine:
    """The core's code for one world."""

    def __init__(self, world: World) -> None:
        self.world, self.terms = world, Terms()
        self._oldest = world.longest
        self.log: Callable[[Any], object] = _ignore
        self._templates: dict[str, Agent] = {}
        self._loading: tuple[str, Agent | None] = ('', None)
        for number, spec in enumerate(world.processes):
            key = f'{spec.name}{number}'
            self._loading = key, None
            agent = self._templates[key] = Agent(
                spec.config(world.durable, world.gathers), TOKEN_OF.__getitem__, self._new_id, 0.0
            )
            _use(agent, self._event)
        self.codec = Codec(self.terms, self._oldest, self._templates.__getitem__)
        self.store = StoreTerms(self.terms, self.codec, SETTINGS, TOKEN_OF.__getitem__, position=world.position)
        self.away = self.codec.term(BackendUnavailable('the store is away'))
        self._processes: dict[tuple[Any, ...], Process] = {}
        self._rested: dict[Term, tuple[Term, tuple[Turn, ...]]] = {}
        self._taken: dict[tuple[Term, int, Any], Term] = {}
        self._calls: dict[tuple[Term, Term], tuple[Term, Any]] = {}
        self._claims: dict[Process, int] = {}
        self._with: dict[Any, Process] = {}
        self._acted: dict[Any, Process] = {}
        self._working: dict[Term, tuple[str, ...]] = {}
        self._aged: dict[Any, Process] = {}
        self._counts: dict[Process, tuple[frozenset[Count], frozenset[Count]]] = {}
        self._recounted: dict[Any, dict[Count, Count]] = {}

    # --- what an agent needs -------------------------------------------------------------------------------------------------

    def _new_id(self) -> str:
        """Return the id of an incarnation: of which process, and the how many-th."""
        key, agent = self._loading
        return f'{key}.{0 if agent is None else agent._session}'

    def _event(self, event: Any) -> None:
        self.log(event)

    def _copy(self, term: Term) -> Agent:
        agent = self.codec.copy(term)
        self._loading = term.parts[0], agent
        return agent

    # --- processes -----------------------------------------------------------------------------------------------------------

    def process(self, process: Process) -> Process:
        """Return the one process that is equal to this one."""
        return self._processes.setdefault(_values(process), process)

    def changed(self, process: Process, **fields: Any) -> Process:
        """Return the process with other fields; one that is not paused decides what needs no call."""
        values = list(_values(process))
        for name, value in fields.items():
            values[_PLACE[name]] = value
        if values[_AGENT] is not None and not values[_IS_PAUSED]:
            values[_AGENT] = self._rest(values[_AGENT])[0]
        key = tuple(values)
        found = self._processes.get(key)
        if found is None:
            found = self._processes[key] = Process(*key)
        return found

    def with_field(self, process: Process, field: str, value: Any) -> Process:
        """Return the process with another value of one field, as ``changed`` does."""
        key = process, field, value
        found = self._with.get(key)
        if found is None:
            found = self._with[key] = self.changed(process, **{field: value})
        return found

    def started(self, process: Process) -> Process:
        """Return the process once it was started."""
        template = self._templates[process.key]
        self._loading = process.key, None
        agent = Agent(template.config, TOKEN_OF.__getitem__, self._new_id, 0.0)
        _use(agent, self._event)
        return self.changed(process, agent=self.codec.agent(agent, process.key), was_started=True)

    def turns(self, process: Process) -> tuple[Turn, ...]:
        """Return the calls that a process makes now: one for each lane at most."""
        return () if process.agent is None or process.is_paused else self._rest(process.agent)[1]

    def _rest(self, agent: Term) -> tuple[Term, tuple[Turn, ...]]:
        """Return the agent once it has decided all that needs no call, and the calls that it then makes."""
        found = self._rested.get(agent)
        if found is None:
            found = self._rested[agent] = self._settle(agent)
            self._rested.setdefault(found[0], found)
        return found

    def _settle(self, term: Term, agent: Agent | None = None) -> tuple[Term, tuple[Turn, ...]]:
        """See ``_rest``; ``agent`` is in the state of the term, and may be changed."""
        for _ in range(_MOST_TURNS):
            before, turns = term, []
            for number, lane in enumerate(LANES):
                agent = agent or self._copy(term)
                turn = self._turn(agent, number, lane, term.parts[0])
                if turn is None:
                    term = self.codec.agent(agent, term.parts[0])
                else:
                    turns.append(turn)
                    agent = None
            if term is before:
                return term, tuple(turns)
        raise RuntimeError(f'{term.parts[0]} decides again and again without a call')

    def _turn(self, agent: Agent, number: int, lane: Lane, key: str) -> Turn | None:
        """Return the call that an agent makes next in a lane; None if it makes none, though it may have changed."""
        call = agent.next(lane, 0.0)
        if isinstance(call, (int, float)):
            return None
        kind = 'heartbeat' if lane is Lane.HEARTBEAT else 'work'
        command: Any = call
        if isinstance(call, commands.PlanAndCommit):
            backend = _NoCommit()
            outcome: Any = execute(backend, call, TOKEN_OF.__getitem__)  # type: ignore[arg-type]
            if backend.taken is None:
                agent.done(lane, outcome, 0.0)
                return None
            kind, command = 'commit', Commit(*backend.taken, outcome)
        return Turn(number, self.codec.agent(agent, key), self.codec.term(command, agent.ref.incarnation), kind)

    def take(self, agent: Term, lane: int, reply: Any) -> Term:
        """Return the agent once it has taken a reply."""
        key = agent, lane, reply
        found = self._taken.get(key)
        if found is None:
            copy = self._copy(agent)
            copy.done(LANES[lane], self.codec.value(reply), 0.0)
            found = self._taken[key] = self.codec.agent(copy, agent.parts[0])
            if found not in self._rested:  # the copy is at hand
                rested = self._rested[found] = self._settle(found, copy)
                self._rested.setdefault(rested[0], rested)
        return found

    def call(self, store: Term, command: Term) -> tuple[Term, Any]:
        """Return the store after a call, and the reply."""
        key = store, command
        found = self._calls.get(key)
        if found is None:
            found = self._calls[key] = self.store.call(store, command)
        return found

    def acted(self, process: Process, name: str, action: Callable[[Agent], object]) -> Process:
        """Return the process after an action, of this name, of its user."""
        key = process, name
        if key not in self._acted:
            self._acted[key] = self._act(process, action)
        return self._acted[key]

    def _act(self, process: Process, action: Callable[[Agent], object]) -> Process:
        assert process.agent is not None
        agent = self._copy(process.agent)
        action(agent)
        return self.changed(process, agent=self.codec.agent(agent, process.key))

    # --- what holds of a process ---------------------------------------------------------------------------------------------

    def claims(self, process: Process) -> int:
        """Return what a process answers True for now, or works on under its lease: a bit for each token and each task.

        A paused process counts: it may stand between the answer and the work.
        """
        found = self._claims.get(process)
        if found is None:
            found = self._claims[process] = self._claimed(process)
        return found

    def _claimed(self, process: Process) -> int:
        if process.agent is None:
            return 0
        lease = self._copy(process.agent).lease
        if lease.deadline <= 0:
            return 0
        ownership, bits = lease.ownership, 0
        for token, mine in enumerate(ownership.mine):
            bits |= mine << token
        for number, (task, token) in enumerate(TOKEN_OF.items()):
            works = ownership.claims(task, token) or TaskStart(task) in lease.in_flight
            bits |= works << (SETTINGS.total_tokens + number)
        return bits

    def working(self, process: Process) -> tuple[str, ...]:
        """Return the tasks that a process works on."""
        if not self.world.tasks or process.agent is None:
            return ()
        found = self._working.get(process.agent)
        if found is None:
            found = self._working[process.agent] = tuple(start.key for start in self._copy(process.agent).lease.in_flight)
        return found

    def has_weight(self, process: Process) -> bool:
        """Return whether a process runs and is not drained."""
        return process.agent is not None and self._copy(process.agent).weight > 0

    def is_alive(self, process: Process) -> bool:
        """Return whether the process runs and has neither left nor failed."""
        if process.agent is None:
            return False
        phase = self.phase(process)
        return phase is not Phase.LEFT and phase is not Phase.FAILED

    def phase(self, process: Process) -> Phase:
        """Return the phase of a process that was started."""
        assert process.agent is not None
        found: Phase = process.agent.parts[1]
        return found

    # --- time ----------------------------------------------------------------------------------------------------------------

    def counts(self, process: Process) -> tuple[frozenset[Count], frozenset[Count]]:
        """Return the counts that a process has read: of heartbeats apart."""
        found = self._counts.get(process)
        if found is None:
            terms = [process.agent, *(kept[1] for kept in process.under_way if kept), *process.orphans]
            counts = frozenset[Count]().union(*(term.counts for term in terms if isinstance(term, Term)))
            beats = frozenset(count for count in counts if count[0].startswith('beat'))
            found = self._counts[process] = counts - beats, beats
        return found

    def aged(self, process: Process, numbers: Numbers, records: Mapping[str, tuple[int, ...]], ahead: int, *, by: int) -> Process:
        """Return the process with other counts, a tick later or not."""
        others, beats = self.counts(process)
        if process.agent is None and not others:
            return process
        recounting = beats, tuple([records.get(kind) for kind, _ in beats])
        changes = self._recounted.get(recounting)
        if changes is None:
            changes = self._recounted[recounting] = recounted(beats, records, ahead)
        mine = frozenset([(count, numbers[count]) for count in others if count in numbers])
        key = process, mine, recounting, by
        found = self._aged.get(key)
        if found is None:
            found = self._aged[key] = self._age(process, {**numbers, **changes}, by)
        return found

    def _age(self, process: Process, numbers: Numbers, by: int) -> Process:
        def older(at: Time) -> Time:
            return Time((at[0], max(at[1] - by, 0 if at[0] == 'd' else -self._oldest)))

        def change(term: Any) -> Any:
            return self.terms.changed(term, numbers, older if by else None) if isinstance(term, Term) else term

        return self.changed(
            process,
            agent=change(process.agent),
            under_way=tuple(kept and (kept[0], change(kept[1])) for kept in process.under_way),
            orphans=tuple(map(change, process.orphans)),
            steady=max(process.steady - by, 0) if by else int(self.world.longest) - 1,
        )


def _use(agent: Agent, event: Callable[[Any], None]) -> None:
    """Have an agent and its parts report events to this function, rather than to a method of the agent."""
    parts = [agent, agent.lease, agent._entry, agent._unreadable, agent._comparison, agent._membership]
    for part in [*parts, agent._membership.leader_term, agent._membership.retention]:
        part._emit = event  # type: ignore[attr-defined]


def _ignore(event: Any) -> None:
    """Do nothing with an event."""
