"""The actions of ``spec/protocol.tla`` over recorded events: what a cluster may do next, and nothing of how it decides to.

A trace is a list of events in the order in which they took effect. ``check`` carries them out one after the other, each as the
action of the module that has its name, and raises ``Refused`` at the first whose action the module does not allow there. Nothing
of ``jobsync._core`` is imported: this file is read beside the module, and disagrees with the code where the code is wrong.

Where the module has one task, its hash token and its pin, a trace has many; where it has one timeout, each run has its own. A
commit of a trace is a ``Decide`` and a ``Commit`` of many changes at once. A reading may come late, so it may be of a version
that the store had before. Rows of tokens may be deleted, which the module leaves out: their last owner is then waited for as an
absent one. In a store that has gone back no record counts, and what happens to its records is no step of the module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import attrs
from tests.traces.state import ABSENT, DRIFT, NEVER, NOTHING, SLACK, Assignment, Call, Refused, Run, need

__all__ = ['ACTIONS', 'Event', 'Refused', 'Specification', 'check']

Event = Mapping[str, Any]
"""One event: ``do`` is the action, ``at`` the true time, ``run`` the run that it is about. The rest is the action's."""
ACTIONS: Mapping[str, tuple[str, ...]] = {
    'send': ('Send',),
    'arrive': ('Arrive',),
    'answer': ('Answer',),
    'claims': ('LetGo',),  # or less of it is claimed, which is no step of the module: a run may claim all that it has a right to
    'drop': ('Evicted',),
    'read': ('Read',),
    'look': ('Look', 'Notice'),
    'open': ('Notice',),
    'lead': ('Lead',),
    'decide': ('Decide',),
    'commit': ('Commit',),
    'join': ('Join',),
    'die': ('Die',),
    'declare': ('Declare',),
    'leave': ('Leave',),
    'back': ('GoBack',),
    'renew': ('Renew',),
    'tick': ('Tick',),
    'delete': ('Delete',),
    'delete_rows': (),  # the module leaves out what rows of tokens are for
}
"""The actions of the module that each kind of event is."""


def check(events: Iterable[Event]) -> int:
    """Carry out the events of a trace; return how many there are. Raises ``Refused`` at the first that is not allowed."""
    specification = None
    number = 0
    for number, event in enumerate(events, 1):
        try:
            if specification is None:
                specification = Specification(event)
            else:
                specification.step(event)
        except Refused as refusal:
            raise Refused(f'event {number}, {event["do"]} of {event.get("run", "the store")}: {refusal}') from None
    return number


class Specification:
    """The state of the module, for one trace."""

    def __init__(self, first: Event) -> None:
        """Begin as ``Init``; the first event has the tokens, the tasks with their hash tokens, the margin and the timeline."""
        need(first['do'] == 'begin', 'a trace begins with its tokens and tasks')
        self.tokens = range(first['tokens'])
        self.tasks: Mapping[str, int] = first['tasks']
        self.margin: float = first['margin']
        self.timeline: str = first['timeline']
        self.gone_back = False
        """The store's history is another than that of the timeline."""
        self.longest = 0.0
        """The longest timeout that the store has known, and not lost since."""
        self.runs: dict[str, Run] = {}
        self.record: dict[str, str] = {}
        self.left: set[str] = set()
        self.over: set[str] = set()
        """What any record has ever declared over."""
        self.leader, self.epoch = '', 0
        self.version: str = first['version']
        self.versions: dict[str, Assignment] = {self.version: NOTHING}
        """Every assignment there was."""
        self.requested: dict[int, int] = {}
        """For what has a target: since which version, by its place among all, it has been requested without a break."""
        self.released: set[tuple[str, int]] = set()
        """What owners have acknowledged to have released since then."""

    def step(self, event: Event) -> None:
        """Carry out one event."""
        run = self.runs.get(event.get('run', ''))
        if 'clock' in event and run is not None:
            self._tick(run, event['clock'], event['at'])
        getattr(self, f'do_{event["do"]}')(event)

    @property
    def assignment(self) -> Assignment:
        """The present version."""
        return self.versions[self.version]

    def _tick(self, run: Run, clock: float, at: float) -> None:
        """``Tick``: clocks never go back, and drift apart by no more than is assumed."""
        need(clock >= run.clock - SLACK, 'its clock goes back')
        if run.clock > NEVER:
            need(clock - run.clock <= (at - run.at) * (1 + DRIFT) + SLACK, 'its clock is too fast')
        run.clock, run.at = clock, at

    def _of(self, event: Event) -> Run:
        need(event['run'] in self.runs, 'there is no such run')
        return self.runs[event['run']]

    def _joined(self, run: str | None) -> bool:
        return run is not None and self.record.get(self.runs[run].name) == run and run not in self.left

    def _one_owner(self, mine: Run, at: float) -> None:
        """P1, between a run whose claims have changed and every other."""
        if mine.mine and mine.certainly_has_lease(at):
            for other in self.runs.values():
                if other is not mine and other.mine & mine.mine and other.certainly_has_lease(at):
                    raise Refused(f'P1: {sorted(map(str, mine.mine & other.mine))} are claimed by {other.name} too')

    def _claims(self, run: Run, event: Event, most: frozenset[Any], until: float) -> None:
        """Take what the run claims from now on, which is ``most`` at the most, and until when."""
        claims, before = frozenset(event['claims']), (run.mine, run.until)
        need(claims <= most, f'it claims {sorted(map(str, claims - most))}, which it has no right to')
        run.mine, run.until = claims, until
        try:
            self._one_owner(run, event['at'])
        except Refused:
            run.mine, run.until = before
            raise

    # --- Lease: when a node may answer True ----------------------------------------------------------------------------------

    def do_send(self, event: Event) -> None:
        """R1. A lease is counted from before the heartbeat is sent. A call that was under way is given up."""
        run = self._of(event)
        need(run.lives and not run.is_over, 'it is not registered')
        need(event['version'] == run.known, 'it acknowledges a version that it has not read last')
        run.call = Call(event['clock'], event['version'])

    def do_arrive(self, event: Event) -> None:
        """The record of the run counts one heartbeat more, and has what it acknowledges."""
        if self.gone_back:
            return
        name, run = event['run'], self._of(event)
        need(self._joined(name), 'it is not registered')
        need(event['counter'] == run.beats + 1, f'the counter was {run.beats}')
        run.beats += 1
        if run.call is not None and run.call.version == event['version']:
            run.call.counters.add(run.beats)
        if event['version'] in self.versions:
            before = list(self.versions).index(event['version'])
            for place, since in self.requested.items():
                if before >= since and self.assignment.run(place) == name and place not in event['holding']:
                    self.released.add((name, place))

    def do_answer(self, event: Event) -> None:
        """R3. Gain after the acknowledgement of the version that gives."""
        run, call = self._of(event), self._of(event).call
        need(not run.is_over, 'it is over')
        need(call is not None and event['counter'] in call.counters, 'no such heartbeat has arrived')
        assert call is not None
        end = call.sent + run.timeout * (1 - self.margin)
        need(event['clock'] < end + SLACK, 'the lease of that heartbeat is over')
        need(event['until'] <= max(end, run.until) + SLACK, 'a lease ends a timeout less the margin after the heartbeat was sent')
        self._claims(run, event, run.gains | run.mine if call.version == run.known else run.mine, event['until'])
        run.call = None

    def do_claims(self, event: Event) -> None:
        """Something is claimed no more."""
        run = self._of(event)
        need(event['until'] <= run.until + SLACK, 'a lease is extended by an answer alone')
        self._claims(run, event, run.mine, event['until'])

    def do_drop(self, event: Event) -> None:
        """The run is over, and its process goes on as another run, or not at all."""
        run = self.runs.get(event['run'])
        if run is not None:
            run.is_over, run.mine, run.until, run.lives, run.call = True, frozenset(), NEVER, '', None

    # --- Hand-over: how a token changes hands --------------------------------------------------------------------------------

    def _gives(self, version: str, run: str) -> frozenset[Any]:
        """Return the tokens and tasks that a version gives to a run (R3: no target; R7: a pin hides the hash)."""
        assignment = self.versions[version]

        def shows(place: int) -> bool:
            return assignment.run(place) == run and assignment.target.get(place) is None

        tasks = [task for task, token in self.tasks.items() if shows(assignment.pins.get(task, token))]
        return frozenset([*filter(shows, self.tokens), *tasks])

    def do_read(self, event: Event) -> None:
        """R3. Lose when a version is read, also one of records that do not count."""
        run, version = self._of(event), event['version']
        need(not run.is_over, 'it is over')
        if version not in self.versions:
            need(self.gone_back or run.lives != self.timeline, 'there was no such version')
            self._claims(run, event, run.mine, run.until)
            run.known = version
            return
        gains = frozenset() if run.has_let_go else self._gives(version, event['run'])
        self._claims(run, event, run.mine & gains, run.until)
        run.known, run.gains = version, gains
        clock: float = event['clock']
        run.rowless = {place: run.rowless.get(place, clock) for place in self.versions[version].last}

    # --- Leader and commit ---------------------------------------------------------------------------------------------------

    def do_look(self, event: Event) -> None:
        """R2. Silence is counted from the first reading of a heartbeat, on the reader's clock."""
        run = self._reader(event)
        if event['timeline'] != self.timeline:
            return
        clock: float = event['clock']
        for name, (other, counter, _) in event['nodes'].items():
            if run.read.get(name, ('', 0))[:2] != (other, counter):
                run.read[name] = other, counter, clock
        if 'whole' in event:
            there = {other for other, _, is_joined in event['nodes'].values() if is_joined}
            run.absent = {other: run.absent.get(other, clock) for other in self.runs if other not in there}

    def _reader(self, event: Event) -> Run:
        """Return a run that reads, which may not have registered yet."""
        run = self.runs.setdefault(event['run'], Run(event['name'], event['timeout']))
        self._tick(run, event['clock'], event['at'])
        return run

    def do_open(self, event: Event) -> None:
        """R8. The wait for what may be left of an older history begins when the timeline is read."""
        self._reader(event).opened = event['clock']

    def _is_silent(self, run: Run, other: str, counter: int, clock: float) -> bool:
        read = run.read.get(self.runs[other].name)
        return read is not None and read[:2] == (other, counter) and clock >= read[2] + self.runs[other].timeout - SLACK

    def do_lead(self, event: Event) -> None:
        """R4. A term is taken by comparing the epoch."""
        if self.gone_back or (self.leader, self.epoch) == (event['run'], event['epoch']):
            return
        need(self._joined(event['run']), 'it is not registered')
        need(event['epoch'] == self.epoch + 1, f'the epoch was {self.epoch}')
        self.leader, self.epoch = event['run'], event['epoch']

    def do_decide(self, event: Event) -> None:
        """Only a leader with a lease plans, from the version it has read."""
        run = self._of(event)
        need(run.lives and not run.is_over, 'it is not registered')
        need(event['clock'] < run.until, 'it has no lease')
        need(event['version'] == run.known, 'it plans from a version that it has not read last')
        run.decided[event['version'], event['epoch']] = event['clock']

    def do_commit(self, event: Event) -> None:
        """R5. All or nothing, if timeline, epoch, version and the heartbeats are what they were."""
        name, leader, old = event['run'], self._of(event), self.assignment
        need(not self.gone_back and event['timeline'] == self.timeline, 'the timeline is another')
        need(self._joined(name), 'it is not registered')
        need(self.leader == name and event['epoch'] == self.epoch, f'{self.leader} leads in epoch {self.epoch}')
        need(event['base'] == self.version, f'the version is {self.version}')
        need((event['base'], event['epoch']) in leader.decided, 'it has not planned that')
        need(event['version'] not in self.versions, 'there was such a version before')
        clock = leader.decided[event['base'], event['epoch']]
        for run, counter in event['evictions']:
            is_there = self.record.get(self.runs[run].name) == run  # or was declared over meanwhile, at the same heartbeat
            need(is_there and self.runs[run].beats == counter, f'{run} is not as it was')
            need(self._is_silent(leader, run, counter, clock), f'{run} has not been silent for its timeout')
        for run in event['departed']:
            need(self.record.get(self.runs[run].name) == run and run in self.left, f'{run} has not left')
        for run in event['absent']:
            need(run not in self.runs or not self._joined(run), f'{run} is registered')
        gone = {*(run for run, _ in event['evictions']), *event['departed']}
        new = self._planned(old, event)
        is_last = self._is_last(leader, event)
        self._compare(old, new, name, clock, {*gone, name} if is_last else gone)
        for run in gone:
            del self.record[self.runs[run].name]
            self.runs[run].is_removed = True
        if is_last:
            leader.gains, leader.has_let_go = frozenset(), True
        self._begin(event['version'], new, {self.tasks[task] for task, pin in old.pins.items() if pin in event['unpinned']})
        leader.beats += 1

    def _begin(self, version: str, new: Assignment, anew: Set[int] = frozenset()) -> None:
        """Begin a version. R3: a request goes on if it was there before; R7: the hash tokens ``anew`` have a task more."""
        old, number = self.assignment, len(self.versions)
        self.version, self.versions[version] = version, new
        goes_on = {place for place in self.requested if new.target.get(place) is not None and old.run(place) == new.run(place)}
        self.requested = {
            place: self.requested[place] if place in goes_on - anew else number
            for place, target in new.target.items()
            if target is not None
        }
        self.released = {(run, place) for run, place in self.released if self.requested.get(place, number) < number}

    @staticmethod
    def _is_last(leader: Run, event: Event) -> bool:
        """Return whether a leader that claims nothing is no member any more after its commit: it gives away what it owns."""
        return not leader.mine and event['members'].get(leader.name, '') is None

    def _planned(self, old: Assignment, event: Event) -> Assignment:
        """Return the assignment with a plan's changes."""
        rows = {token: (owner, target) for tokens, owner, target in event['groups'] for token in tokens}
        rows |= {pin: (owner, target) for pin, _, owner, target in event['pins']}
        gone = set(event['unpinned'])
        places = (old.owner.keys() | rows.keys()) - gone
        meant = {**old.meant, **event['members']}
        return Assignment(
            owner={place: rows[place][0] if place in rows else old.owner[place] for place in places},
            target={place: rows[place][1] if place in rows else old.target[place] for place in places},
            meant={owner: run for owner, run in meant.items() if run is not None},
            pins={
                **{task: pin for task, pin in old.pins.items() if pin not in gone},
                **{task: pin for pin, task, _, _ in event['pins']},
            },
            last={place: run for place, run in old.last.items() if place not in rows},
        )

    def _compare(self, old: Assignment, new: Assignment, leader: str, clock: float, gone: set[str]) -> None:
        """Refuse a commit by which a token or a task passes from a run that may still claim it."""
        things: list[tuple[object, int, int]] = [(token, token, token) for token in self.tokens]
        things += [(task, old.pins.get(task, token), new.pins.get(task, token)) for task, token in self.tasks.items()]
        for thing, before, after in things:
            giver, taker = old.run(before), new.run(after)
            if taker is None or taker == giver:
                continue
            need(taker in self.runs, f'{thing} is given to {taker}, which was never registered')
            if not old.meant:
                need(self._may_begin(self.runs[leader], clock), f'{thing} is given before older leases are over')
            elif before in old.last:
                need(self._may_take_rowless(old, before, self.runs[leader], clock), f'{thing} has no row, and is not waited for')
            elif giver is not None:
                need(self._lets_go(giver, before, self.runs[leader], clock, gone), f'{giver} may still claim {thing}')
        for thing, before, after in things:
            giver = old.run(before)
            if giver is not None and new.run(after) is None:
                need(self._lets_go(giver, before, self.runs[leader], clock, gone), f'{giver} may still claim {thing}')

    def _lets_go(self, run: str, place: int, leader: Run, clock: float, gone: set[str]) -> bool:
        """Return whether a run can claim a place no more: released (R3), gone with this commit, replaced or absent (R5)."""
        if (run, place) in self.released or run in gone:
            return True
        if self.record.get(self.runs[run].name) == run:
            return False
        if run in self.over:
            return True
        return run in leader.absent and clock >= leader.absent[run] + self.runs[run].timeout - SLACK

    def _may_begin(self, leader: Run, clock: float) -> bool:
        """Return whether the first commit of a timeline has waited for every run of older ones (R8)."""
        # A store that was emptied has lost the timeouts as well: what begins then cannot wait for one that it has never read.
        older = [min(run.timeout, self.longest) for run in self.runs.values() if run.lives not in ('', self.timeline)]
        return not older or (leader.opened is not None and clock >= leader.opened + max(older) - SLACK)

    def _may_take_rowless(self, old: Assignment, place: int, leader: Run, clock: float) -> bool:
        """Return whether the last owner of a token whose row was deleted has been waited for."""
        last = self.runs.get(old.last[place] or '')
        may_claim = last is not None and not last.is_over and not last.is_removed
        timeout = max(leader.timeout, last.timeout if last is not None and may_claim else 0.0)
        return place in leader.rowless and clock >= leader.rowless[place] + timeout - SLACK

    # --- Names ---------------------------------------------------------------------------------------------------------------

    def do_join(self, event: Event) -> None:
        """R6. A free name is taken; a registered one only after a timeout of silence, or if its run is known to be over.

        A registration that was given up may be carried out late, and bring a run back whose record was removed.
        """
        name, run = event['run'], self.runs.setdefault(event['run'], Run(event['name'], event['timeout']))
        self.longest = max(self.longest, run.timeout)
        if self.gone_back:
            run.lives = event['timeline']
            return
        need(event['timeline'] == self.timeline, 'the timeline is another')
        there, over = self.record.get(run.name), run.replaces
        need(there != name, 'it is registered')
        if there is not None:
            other = self.runs[there]
            is_silent = self._is_silent(run, there, other.beats, run.clock)
            need(there in self.left or other.is_over or is_silent, f'{there} has the name')
            over = {there, *other.replaces}
        for other_run in event['replaces']:
            is_over = other_run not in self.runs or self.runs[other_run].is_over or other_run in {*over, *self.left}
            need(is_over, f'it declares {other_run} over')
        self.record[run.name], run.beats, run.is_removed = name, 0, False
        run.lives, run.replaces = event['timeline'], {*over, *event['replaces']}
        self.left.discard(name)
        self.over |= run.replaces

    # --- A death that is known -----------------------------------------------------------------------------------------------

    def do_die(self, event: Event) -> None:
        """Its process has ended."""
        self.do_drop(event)

    def do_declare(self, event: Event) -> None:
        """The proof is of an incarnation, never of a name. Another run declares it in the store."""
        need(self._of(event).is_over, 'it is alive')
        if self._joined(event['run']) and not self.gone_back:
            self.left.add(event['run'])

    def do_leave(self, event: Event) -> None:
        """A run that leaves has released everything, and claims nothing any more: its record says so."""
        run = self._of(event)
        if self._joined(event['run']) and not self.gone_back:
            need(not run.mine, 'it claims something')
            self.left.add(event['run'])
            run.gains, run.has_let_go = frozenset(), True

    # --- A store that goes back in time --------------------------------------------------------------------------------------

    def do_back(self, event: Event) -> None:
        """The store has lost records: none counts any more."""
        self.gone_back, self.longest = True, event['longest']

    def do_renew(self, event: Event) -> None:
        """R8. A timeline without records begins."""
        self.timeline, self.version, self.gone_back = event['timeline'], event['version'], False
        self.record, self.left, self.leader, self.epoch = {}, set(), '', event['epoch']
        self.versions[self.version] = NOTHING
        self.requested, self.released = {}, set()

    # --- What is assumed -----------------------------------------------------------------------------------------------------

    def do_tick(self, event: Event) -> None:
        """A run reads its clock, and ``step`` has taken that."""
        self._reader(event)

    def do_delete(self, event: Event) -> None:
        """The record of a name is deleted manually."""
        if not self.gone_back:
            self.record.pop(event['name'], None)

    def do_delete_rows(self, event: Event) -> None:
        """Rows of tokens are deleted manually, which makes a new version."""
        if self.gone_back:
            return
        old, gone = self.assignment, set(event['tokens'])
        new = attrs.evolve(
            old,
            owner={**old.owner, **dict.fromkeys(gone, ABSENT)},
            target={**old.target, **dict.fromkeys(gone)},
            last={**old.last, **{place: old.last.get(place, old.run(place)) for place in gone}},
        )
        self._begin(event['version'], new)
