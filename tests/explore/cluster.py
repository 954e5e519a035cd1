"""A whole cluster: its states, and every step from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from tests.explore.machine import Machine, Process, Turn
from tests.explore.naming import led_to
from tests.explore.terms import Count, Term, recounted, renumbered
from tests.explore.worlds import SETTINGS, TOKEN_OF, World

from jobsync._core.agent.agent import Agent
from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.agent.phase import Phase
from jobsync._core.patterns import choose
from jobsync.backend import LockEdit, Node
from jobsync.testing.editable_store import EditableStore

__all__ = ['Cluster', 'State', 'Step']

State = tuple[Any, ...]
"""``(store, image to go back to, what may still happen, next edit, *processes)``."""
_STORE, _IMAGE, _BUDGET, _EDIT, _FIRST = range(5)
_MOST_STEPS = 600
"""Within so many steps a cluster must settle, if nothing more happens to it."""


class Step(NamedTuple):
    """What happens: the kind, the number of the process (or -1), and what the kind needs."""

    kind: str
    process: int = -1
    more: Any = None


TICK = Step('tick')


class Cluster:
    """The states of one world."""

    def __init__(self, world: World) -> None:
        self.world, self.machine = world, Machine(world)
        self._spent: dict[tuple[Term, str], Term | None] = {}
        self._numbers: dict[frozenset[Count], dict[Count, Count]] = {}
        self._stores: dict[tuple[Any, ...], Term] = {}
        self._good: set[int] = set()
        """The hashes of the states from which the cluster is known to settle."""
        self._settled: dict[tuple[Any, ...], bool] = {}
        self._stands: dict[Process, tuple[bool, bool, bool, int]] = {}
        self._takings: dict[Any, Process] = {}
        self._edits: dict[Any, Term] = {}
        self._splits: dict[Term, tuple[frozenset[Count], frozenset[Count]]] = {}
        self._ahead = 1 + sum(world.budget.get(kind, 0) for kind in ('lose', 'late'))
        """How many heartbeats of one node may have an outcome that it does not know, and one."""

    # --- the beginning -------------------------------------------------------------------------------------------------------

    def start(self) -> State:
        """Return the state in which the world begins."""
        machine, world = self.machine, self.world
        budget = machine.terms.make('budget', (world.most, *world.budget.values()))
        nobody = [machine.process(Process(f'{spec.name}{number}', None, steady=0)) for number, spec in enumerate(world.processes)]
        state: State = (machine.store.empty(), None, budget, 0, *nobody)
        for number, spec in enumerate(world.processes):
            if spec.is_there:
                state = self._with(state, number, machine.started(state[_FIRST + number]))
                state = self.settled(state)
        for edit in world.before:
            state = self.settled(self._edited(state, edit))
        for _ in range(world.calm):  # what is left of the last hand-over comes to an end
            state = self._until_tick(state)
        if 'roll back' in world.budget:
            state = (state[_STORE], state[_STORE], *state[_BUDGET:])
        for name in world.beginning:
            state = led_to(self, state, name)
        return state

    def _until_tick(self, state: State) -> State:
        while True:
            step, state = self.go_on(state)
            if step == TICK:
                return state

    def settled(self, state: State) -> State:
        """Return a state that the cluster reaches by itself, in which every promise about a quiet cluster holds."""
        for _ in range(_MOST_STEPS):
            if self.is_settled(state):
                return state
            state = self.go_on(state)[1]
        raise RuntimeError(f'{self.world.name}: the cluster does not settle')

    def _with(self, state: State, number: int, process: Process) -> State:
        at = _FIRST + number
        return (*state[:at], process, *state[at + 1 :])

    # --- what holds ----------------------------------------------------------------------------------------------------------

    def owned_twice(self, state: State) -> int:
        """Return the bits of the tokens and tasks that more than one process claims (promise P1)."""
        once = twice = 0
        for process in state[_FIRST:]:
            bits = self.machine.claims(process)
            twice |= once & bits
            once |= bits
        return twice

    def is_settled(self, state: State) -> bool:
        """Return whether every token and task has its one owner, as far as any node may own it, and every node is a member."""
        living = []
        for process in state[_FIRST:]:
            is_alive, is_member, has_weight, claims = self._stands.get(process) or self._stand(process)
            if is_alive:
                if not is_member:
                    return False
                living.append((process.key, has_weight, claims))
        if not living:
            return True
        space = state[_STORE].parts[0]
        if space is None:
            return False
        key = space.parts[12], *living
        found = self._settled.get(key)
        if found is None:
            found = self._settled[key] = self._is_shared_out(state[_STORE], living)
        return found

    def _stand(self, process: Process) -> tuple[bool, bool, bool, int]:
        """Return whether a process lives, whether it is a member and not drained, and what it claims."""
        machine = self.machine
        is_alive = machine.is_alive(process)
        is_member = is_alive and machine.phase(process) is Phase.MEMBER
        found = is_alive, is_member, machine.has_weight(process), machine.claims(process)
        self._stands[process] = found
        return found

    def _is_shared_out(self, store: Term, living: list[tuple[str, bool, int]]) -> bool:
        """Return whether every token and task has one owner among the living: which have a weight, and claim these bits."""
        name_of = {f'{spec.name}{number}': spec.name for number, spec in enumerate(self.world.processes)}
        names = [name_of[key] for key, has_weight, _ in living if has_weight]
        if not names:
            return True
        for token in range(SETTINGS.total_tokens):
            if sum(bits >> token & 1 for _, _, bits in living) != 1:
                return False
        locks = {lock.task_id: lock for lock in self._locks(store)}
        for number, task in enumerate(TOKEN_OF):
            allowed = choose(locks[task].patterns, names)[1] if task in locks else frozenset(names)
            bit = SETTINGS.total_tokens + number
            owners = [name_of[key] for key, _, bits in living if bits >> bit & 1]
            if len(owners) != min(1, len(allowed)) or not allowed.issuperset(owners):
                return False
        return True

    def _locks(self, store: Term) -> tuple[Any, ...]:
        found = self.machine.codec.value(store.parts[0].parts[12])
        return tuple(sorted(found.values(), key=lambda lock: not lock.group))

    def name(self, number: int) -> str:
        """Return what a process is called in a timeline: the node's name, with primes for later processes of that name."""
        specs = self.world.processes
        return specs[number].name + "'" * sum(spec.name == specs[number].name for spec in specs[:number])

    # --- every step ----------------------------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield every step from a state, and the state after it."""
        machine = self.machine
        is_quiet = True
        for number in range(len(self.world.processes)):
            process: Process = state[_FIRST + number]
            if process.agent is None and not process.orphans and process.under_way == (None, None):
                if not process.was_started and (after := self._spend(state, 'start')):
                    yield Step('start', number), self._with(after, number, machine.started(process))
                continue
            for turn in machine.turns(process):
                is_quiet = False
                yield from self._calls(state, number, process, turn)
            yield from self._late(state, number, process)
            if process.agent is not None and machine.is_alive(process):
                yield from self._accidents(state, number, process)
        yield from self._from_outside(state)
        if is_quiet:
            yield TICK, self.tick(state)
            for number in range(len(self.world.processes)):
                if state[_FIRST + number].steady == 0 and (after := self._spend(state, 'drift')):
                    yield Step('tick', number, 'behind'), self.tick(after, number)

    def _spend(self, state: State, kind: str) -> State | None:
        """Return the state with one such event less to come; None if none may come."""
        budget = state[_BUDGET]
        key = budget, kind
        if key not in self._spent:
            most, *left = budget.parts
            kinds = list(self.world.budget)
            after = None
            if most and kind in kinds and left[kinds.index(kind)]:
                left[kinds.index(kind)] -= 1
                after = self.machine.terms.make('budget', (most - 1, *left))
            self._spent[key] = after
        after = self._spent[key]
        return None if after is None else (*state[:_BUDGET], after, *state[_BUDGET + 1 :])

    def _calls(self, state: State, number: int, process: Process, turn: Turn) -> Iterator[tuple[Step, State]]:
        """Yield what may become of one call."""
        machine, lane = self.machine, turn.lane
        fails = process.fails == turn.kind or (process.fails == 'work' and turn.kind == 'commit')
        unanswered = self._taking(process, turn.issued, lane, machine.away)
        if fails:
            yield Step('fails', number, turn), self._with(state, number, unanswered)
            return
        store, reply = machine.call(state[_STORE], turn.command)
        after = (store, *state[1:])
        yield Step('call', number, turn), self._with(after, number, self._taking(process, turn.issued, lane, reply))
        if spent := self._spend(state, 'lose'):
            yield Step('lose', number, turn), self._with(spent, number, unanswered)
            if store is not state[_STORE]:
                yield Step('mute', number, turn), self._with((store, *spent[1:]), number, unanswered)
        if turn.kind in self.world.late and (spent := self._spend(state, 'late')):
            waiting = self._keeping(process, turn.issued, lane, ('out', turn.command))
            yield Step('send', number, turn), self._with(spent, number, waiting)
            waiting = self._keeping(process, turn.issued, lane, ('back', reply))
            yield Step('wait', number, turn), self._with((store, *spent[1:]), number, waiting)
            if turn.command.head.__name__ not in {'TakeSnapshot', 'ReadAssignment', 'ReadLocks'}:
                given_up = machine.with_field(unanswered, 'orphans', (*unanswered.orphans, turn.command))
                yield Step('give up', number, turn), self._with(spent, number, given_up)

    def _taking(self, process: Process, issued: Term, lane: int, reply: Any) -> Process:
        key = process, issued, lane, reply
        found = self._takings.get(key)
        if found is None:
            found = self._takings[key] = self.machine.changed(process, agent=self.machine.take(issued, lane, reply))
        return found

    def _keeping(self, process: Process, issued: Term, lane: int, kept: tuple[str, Any]) -> Process:
        key = process, issued, lane, kept
        found = self._takings.get(key)
        if found is None:
            under_way = _put(process.under_way, lane, kept)
            found = self._takings[key] = self.machine.changed(process, agent=issued, under_way=under_way)
        return found

    def _late(self, state: State, number: int, process: Process) -> Iterator[tuple[Step, State]]:
        """Yield the arrival of each call and reply that is under way."""
        machine = self.machine
        for lane, kept in enumerate(process.under_way):
            if kept is None:
                continue
            where, what = kept
            if where == 'out':
                store, reply = machine.call(state[_STORE], what)
                after = machine.changed(process, under_way=_put(process.under_way, lane, ('back', reply)))
                if process.agent is None:
                    after = machine.changed(process, under_way=_put(process.under_way, lane, None))
                yield Step('arrive', number, (lane, what)), self._with((store, *state[1:]), number, after)
            elif process.agent is not None and not process.is_paused:
                agent = machine.take(process.agent, lane, what)
                after = machine.changed(process, agent=agent, under_way=_put(process.under_way, lane, None))
                yield Step('answer', number, (lane, what)), self._with(state, number, after)
        for at, command in enumerate(process.orphans):
            store, _ = machine.call(state[_STORE], command)
            after = machine.changed(process, orphans=(*process.orphans[:at], *process.orphans[at + 1 :]))
            yield Step('carry out', number, command), self._with((store, *state[1:]), number, after)

    def _accidents(self, state: State, number: int, process: Process) -> Iterator[tuple[Step, State]]:
        """Yield what may happen to a process that runs."""
        machine, world = self.machine, self.world
        if process.is_paused:
            yield Step('resume', number), self._with(state, number, machine.with_field(process, 'is_paused', False))
        elif spent := self._spend(state, 'pause'):
            yield Step('pause', number), self._with(spent, number, machine.with_field(process, 'is_paused', True))
        if spent := self._spend(state, 'crash'):
            kept = tuple(part if part and part[0] == 'out' else None for part in process.under_way)
            yield Step('crash', number), self._with(spent, number, machine.changed(process, agent=None, fails='', under_way=kept))
        if process.fails:
            yield Step('heal', number), self._with(state, number, machine.with_field(process, 'fails', ''))
        elif spent := self._spend(state, 'fail'):
            for kind in world.failing:
                yield Step('fail', number, kind), self._with(spent, number, machine.with_field(process, 'fails', kind))
        if process.is_paused:
            return
        if machine.phase(process) in {Phase.MEMBER, Phase.REGISTERING} and (spent := self._spend(state, 'leave')):
            yield (
                Step('leave', number),
                self._with(spent, number, machine.acted(process, 'leave', lambda agent: agent.leave(0.0))),
            )
        if machine.phase(process) is Phase.MEMBER and (spent := self._spend(state, 'weigh')):
            weighed = machine.acted(process, 'weigh', lambda agent: agent.set_weight(1.0 - agent.weight))
            yield Step('weigh', number), self._with(spent, number, weighed)
        for task in world.tasks:
            bit = SETTINGS.total_tokens + list(TOKEN_OF).index(task)
            if task in machine.working(process):
                finished = machine.acted(process, f'finish {task}', partial(_finish, task))
                yield Step('finish', number, task), self._with(state, number, finished)
            elif machine.claims(process) >> bit & 1 and (spent := self._spend(state, 'begin')):
                begun = machine.acted(process, f'begin {task}', partial(_begin, task))
                yield Step('begin', number, task), self._with(spent, number, begun)

    def _from_outside(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield what operators and accidents may do to the store."""
        store, edits, machine = state[_STORE], self.world.edits, self.machine
        if state[_EDIT] < len(edits) and (spent := self._spend(state, 'edit')):
            edited = self._edited(spent, edits[state[_EDIT]])
            yield Step('edit', -1, edits[state[_EDIT]]), (*edited[:_EDIT], state[_EDIT] + 1, *edited[_FIRST:])
        names = dict.fromkeys(spec.name for spec in self.world.processes)
        deletions: list[tuple[Step, Callable[[EditableStore, str], object]]] = [
            *((Step('delete', -1, name), partial(_delete_row, name)) for name in names),
            *((Step('delete all', -1, name), partial(_delete_all, name)) for name in names),
            (Step('delete rows'), _delete_rows),
        ]
        for step, action in deletions:
            if spent := self._spend(state, step.kind):
                after = self._changed(store, step, action)
                if after is not store:
                    image = store if 'put back' in self.world.budget else spent[_IMAGE]
                    yield step, (after, image, *spent[2:])
        for name in names if 'put back' in self.world.budget else ():
            if state[_IMAGE] is not None and (spent := self._spend(state, 'put back')):
                step, record = Step('put back', -1, name), machine.store.node(state[_IMAGE], name)
                if record is not None:
                    after = self._changed(store, (step, state[_IMAGE]), partial(_put_back, record))
                    if after is not store:
                        yield step, (after, *spent[1:])
        if 'image' in self.world.budget and store is not state[_IMAGE] and (spent := self._spend(state, 'image')):
            yield Step('image'), (store, store, *spent[2:])
        if 'roll back' in self.world.budget and (spent := self._spend(state, 'roll back')):
            after = machine.store.rolled_back(store, state[_IMAGE], new_identity=not self.world.position)
            yield Step('roll back'), (after, *spent[1:])
        if spent := self._spend(state, 'jump'):
            yield Step('jump'), (machine.store.with_clock(store, 1 - store.parts[4]), *spent[1:])

    def _edited(self, state: State, edit: LockEdit) -> State:
        def change(store: EditableStore, space: str) -> object:
            assert store.spaces[space]
            return self.machine.store.backend.edit_locks(edit)

        return (self._changed(state[_STORE], edit, change), *state[1:])

    def _changed(self, store: Term, by: object, action: Callable[[EditableStore, str], object]) -> Term:
        """Return the store after an action, of which ``by`` is the name."""
        key = store, by
        found = self._edits.get(key)
        if found is None:
            found = self._edits[key] = self.machine.store.edit(store, action)
        return found

    # --- time ----------------------------------------------------------------------------------------------------------------

    def tick(self, state: State, behind: int = -1) -> State:
        """Return the state a tick later, with the lowest numbers; the clock of the process ``behind`` stands still meanwhile."""
        machine, processes, stores = self.machine, state[_FIRST:], state[_STORE : _IMAGE + 1]
        counts: set[Count] = set()
        records: dict[str, tuple[int, ...]] = {}
        for store in stores:
            if store is not None:
                others, beats = self._split(store)
                counts |= others
                for kind, number in beats:
                    records[kind] = (*records.get(kind, ()), number)
        for process in processes:
            counts |= machine.counts(process)[0]
        key = frozenset(counts)
        numbers = self._numbers.get(key)
        if numbers is None:
            numbers = self._numbers[key] = renumbered(key)
        aged = [
            machine.aged(process, numbers, records, self._ahead, by=int(number != behind))
            for number, process in enumerate(processes)
        ]
        after = [store and self._aged(store, {**numbers, **recounted(self._split(store)[1], records, 1)}) for store in stores]
        return (*after, *state[_BUDGET:_FIRST], *aged)

    def _split(self, store: Term) -> tuple[frozenset[Count], frozenset[Count]]:
        """Return the counts of a store: of heartbeats apart."""
        found = self._splits.get(store)
        if found is None:
            beats = frozenset(count for count in store.counts if count[0].startswith('beat'))
            found = self._splits[store] = store.counts - beats, beats
        return found

    def _aged(self, store: Term, numbers: dict[Count, Count]) -> Term:
        key = store, frozenset((count, numbers[count]) for count in store.counts if count in numbers)
        found = self._stores.get(key)
        if found is None:
            found = self._stores[key] = self.machine.terms.changed(store, numbers, None)
        return found

    # --- a fair end ----------------------------------------------------------------------------------------------------------

    def go_on(self, state: State) -> tuple[Step, State]:
        """Return the next step of a cluster to which nothing happens any more, and in which every call gets through."""
        machine = self.machine
        for number in range(len(self.world.processes)):
            process: Process = state[_FIRST + number]
            for found in self._late(state, number, process):
                return found
            if process.agent is None:
                continue
            if process.is_paused:
                return Step('resume', number), self._with(state, number, machine.with_field(process, 'is_paused', False))
            if process.fails:
                return Step('heal', number), self._with(state, number, machine.with_field(process, 'fails', ''))
            for task in machine.working(process):
                finished = machine.acted(process, f'finish {task}', partial(_finish, task))
                return Step('finish', number, task), self._with(state, number, finished)
            for turn in reversed(machine.turns(process)):  # a heartbeat puts off the next reading, so work comes first
                store, reply = machine.call(state[_STORE], turn.command)
                taken = self._taking(process, turn.issued, turn.lane, reply)
                return Step('call', number, turn), self._with((store, *state[1:]), number, taken)
        return TICK, self.tick(state)

    def settles(self, state: State) -> bool:
        """Return whether the cluster settles if nothing more happens to it.

        The way ends at the first state from which another way has settled: what happens next depends on the state alone.
        """
        way: list[int] = []
        state = (state[_STORE], None, None, 0, *state[_FIRST:])
        for _ in range(_MOST_STEPS):
            key = hash(state)
            if key in self._good:
                self._good.update(way)
                return True
            way.append(key)
            if self.is_settled(state):
                self._good.update(way)
                return True
            state = self.go_on(state)[1]
        return False


def _put(kept: tuple[Any, Any], lane: int, value: Any) -> tuple[Any, Any]:
    return (value, kept[1]) if lane == 0 else (kept[0], value)


def _begin(task: str, agent: Agent) -> None:
    agent.lease.begin(TaskStart(task), TOKEN_OF[task], lambda: 0.0)


def _finish(task: str, agent: Agent) -> None:
    agent.lease.finish([TaskStart(task)])


def _delete_row(name: str, store: EditableStore, space: str) -> None:
    store.delete_node_row(space, name)


def _put_back(record: Node, store: EditableStore, space: str) -> None:
    store.insert_node_row(space, record)


def _delete_rows(store: EditableStore, space: str) -> None:
    store.delete_token_rows(space, range(SETTINGS.total_tokens))


def _delete_all(name: str, store: EditableStore, space: str) -> None:
    """Delete the row of a node and those of its tokens."""
    owned = [token for token, row in enumerate(store.spaces[space].assignment.rows) if row is not None and row.owner == name]
    store.delete_node_row(space, name)
    store.delete_token_rows(space, owned)
