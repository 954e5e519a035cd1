"""Drills on a quiet cluster: one thing happens at a time, and the promises with a bound are held against it.

Bounds are those of a backend that pushes; without push each step may wait for a heartbeat besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jobsync._core.agent import commands
from jobsync._core.leader.admission import HELD_SEC
from jobsync.testing.simulation.node import Fault
from jobsync.testing.simulation.operators import Operators
from jobsync.testing.simulation.processes import WORK

if TYPE_CHECKING:
    from jobsync.testing.simulation.node import SimNode
    from jobsync.testing.simulation.world import World

__all__ = ['Drills']

_DRIFT = 1.05
"""A clock that is slow by as much as they are here lengthens a bound by this factor."""
_NODES = 4
"""There are so many before a drill, where the world has as many names."""
_STORM_SEC = 10.0
_STORMS = 4
"""One world in so many is put through the drills that take long to simulate."""


class Drills:
    """Runs them in turn; each returns what it found wrong."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._interval = max(interval for interval, _ in world.timings)
        self._timeout = max(timeout for _, timeout in world.timings)
        self._steps_of_push = 0.0 if world.push else (1.1 * self._interval + 0.5) * _DRIFT

    def run(self) -> list[str]:
        """All drills, if there is a settled cluster to run them on."""
        found: list[str] = []
        drills = (
            ('P4', self.outage), ('P4', self.read_only), ('R9', self.refusal), ('P6', self.lock), ('P2', self.join),
            ('R5', self.join_in_a_storm), ('P5', self.replace), ('P2', self.rejoin), ('P2', self.drain), ('P2', self.leave),
            ('P3', self.kill), ('P3', self.kill_changed), ('P3', self.kill_two), ('R4', self.stuck_leader),
            ('P3', self.kill_most),
        )  # fmt: skip
        for promise, drill in drills if self._owners() else ():
            found += [f'P2: fill_up: {text}' for text in self._fill_up()]
            if not found:
                found += [f'{promise}: {drill.__name__}: {text}' for text in drill()]
                found += [f'{text}, after {drill.__name__}' for text in self._world.promises.unsettled()]
            if found:
                break
        return found

    def _fill_up(self) -> list[str]:
        """Start nodes until there are enough for any drill."""
        world = self._world
        free = sorted(set(world.names) - {node.name for node in world.living()})
        missing = free[: max(0, _NODES - len(self._owners()))]
        for name in missing:
            world.spawn(name)
        bound = 2 * HELD_SEC + 4 * self._steps_of_push
        return self._expect(lambda: not world.promises.unsettled(), bound, 'it is not settled') if missing else []

    def _owners(self) -> list[SimNode]:
        return [node for node in self._world.living() if node.agent.weight > 0]

    def _leader(self) -> SimNode | None:
        return next((node for node in self._owners() if node.agent.epoch is not None), None)

    # --- the store ----------------------------------------------------------------------------------------------------------

    def outage(self) -> list[str]:
        """P4: the store is away for any time; the same runs own the same tokens afterwards."""
        return self._sit_out('away')

    def read_only(self) -> list[str]:
        """P4: the store refuses writes for any time; the same runs own the same tokens afterwards."""
        return self._sit_out('read-only')

    def refusal(self) -> list[str]:
        """R9: the store refuses every node for any time; the same runs own the same tokens afterwards."""
        return self._sit_out('closed to all')

    def _sit_out(self, how: str) -> list[str]:
        world, before = self._world, self._runs()
        seconds = world.random.uniform(self._interval, 4 * self._timeout)
        until = world.now + seconds
        world.record(f'drill: the store is {how} until {until:.3f}')
        if how == 'away':
            world.down_until = until
        elif how == 'read-only':
            world.read_only_until = until
        for node in world.living():
            node.refused_until = until if how == 'closed to all' else 0.0
        self._until(lambda: False, seconds + self._timeout + 3 * self._interval)
        after = self._runs()
        return [] if after == before else [f'in {seconds:.1f} s, {before} became {after}']

    # --- what changes -------------------------------------------------------------------------------------------------------

    def lock(self) -> list[str]:
        """P6: a task locked to another node is that node's within 2 s."""
        world = self._world
        owners = self._owners()
        task = world.random.choice(world.tasks)
        target = world.random.choice(owners)
        world.record(f'drill: lock {task} to {target.name}')
        world.edit_lock(task, (target.name,))
        bound = 2.0 + 3 * self._steps_of_push
        return self._expect(lambda: target.works_on(task), bound, f'{task} is not on {target.name}')

    def join(self) -> list[str]:
        """P2, P5: a newcomer gets its share; no token is unowned for long, and none moves between the others."""
        world = self._world
        free = sorted(set(world.names) - {node.name for node in world.living()})
        if not free:
            return []
        others = self._owners()
        before = {node: set(node.ownership.tokens) for node in others}
        name = world.random.choice(free)
        world.record(f'drill: {name} joins')
        newcomer = world.spawn(name)
        found = self._expect(
            lambda: newcomer.agent.is_settled and newcomer.has_lease(),
            5.0 + 4 * self._steps_of_push,
            f'{newcomer.name} is not settled',
            gap=1.0 + self._steps_of_push,
        )
        for node in others:
            now = set(node.ownership.tokens)
            gained = {token for token in now - before[node] if token < world.pool}
            pins_lost = [token for token in before[node] - now if token >= world.pool]
            if len(gained) > len(pins_lost):  # a pin may prefer the newcomer, and leave room for a token
                found.append(f'{node.name} gained {sorted(gained)} though another one joined')
        return found

    def join_in_a_storm(self) -> list[str]:
        """R5: edits of task locks, as many as two loops make, do not keep a newcomer from its share."""
        world = self._world
        free = sorted(set(world.names) - {node.name for node in world.living()})
        if not free or world.random.random() > 1 / _STORMS:
            return []
        world.record(f'drill: {free[0]} joins while locks are edited')
        Operators(world).edit_until(world.now + _STORM_SEC)
        newcomer = world.spawn(free[0])
        return self._expect(
            lambda: newcomer.agent.is_planned and newcomer.has_lease() and not newcomer.ownership.is_empty,
            _STORM_SEC if world.push else _STORM_SEC + 4 * self._steps_of_push,
            f'{newcomer.name} owns nothing',
        )

    def leave(self) -> list[str]:
        """P2: what a leaving node owned has new owners within the hand-over."""
        node = self._world.random.choice(self._owners())
        self._world.record(f'drill: {node.name} leaves')
        node.leave()
        bound = 1.0 + 2 * self._steps_of_push + (self._world.grace_sec and self._world.grace_sec * _DRIFT + self._interval)
        return self._expect(self._all_owned, 10.0 + bound, 'tokens are not owned', gap=bound)

    def rejoin(self) -> list[str]:
        """A node that leaves and is back within the grace has its tokens again, and nobody else's are touched."""
        world = self._world
        if not world.grace_sec:
            return []
        node = world.random.choice(self._owners())
        before = self._tokens()
        world.record(f'drill: {node.name} leaves, to return')
        node.leave()
        found = self._expect(lambda: not node.alive, 10.0, f'{node.name} has not left', settle=False)
        again = world.spawn(node.name, weight=node.agent.config.weight)
        bound = 5.0 + 4 * self._steps_of_push
        found += self._expect(lambda: again.agent.is_settled and again.has_lease(), bound, f'{node.name} is not back')
        after = self._tokens()
        return found or ([] if after == before else [f'tokens moved from {before} to {after}'])

    def drain(self) -> list[str]:
        """A node that weighs nothing owns nothing soon, and is not unowned for longer than a hand-over takes."""
        node = self._world.random.choice(self._owners())
        self._world.record(f'drill: {node.name} is drained')
        node.weigh(0.0)
        bound = 5.0 + 4 * self._steps_of_push
        goal = self._all_owned
        found = self._expect(
            lambda: node.ownership.is_empty and goal(), bound, f'{node.name} owns', gap=1.0 + self._steps_of_push
        )
        node.weigh(node.agent.config.weight)
        return found + self._expect(lambda: not self._world.promises.unsettled(), bound, 'it is not settled')

    # --- deaths -------------------------------------------------------------------------------------------------------------

    def kill(self) -> list[str]:
        """P3: what a dead node owned has new owners within the timeout and 2 s; nobody else's tokens are touched."""
        return self._kill([self._world.random.choice(self._owners())], 2.0)

    def kill_changed(self) -> list[str]:
        """The same of the leader, or of whoever else, at most an interval after something has changed."""
        world, owners = self._world, self._owners()
        task = world.random.choice(world.tasks)
        leader = self._leader() or owners[0]
        self._until(lambda: False, world.random.uniform(12, 13) * self._interval)
        target = world.random.choice(owners)
        world.record(f'drill: lock {task} to {target.name}, shortly before a death')
        world.edit_lock(task, (target.name, '%'))
        self._until(lambda: False, self._steps_of_push * 3 + world.random.uniform(0.5, 1) * self._interval)
        return self._kill([world.random.choice([leader, leader, *owners])], 2.0)

    def kill_two(self) -> list[str]:
        """P3: another node dies with the leader; it is watched from when the leader is late, an interval later.

        Nodes that beat in step know within a tenth of an interval that it is; that takes them a while to reach.
        """
        owners, leader = self._owners(), self._leader()
        if len(owners) < 3 or leader is None:
            return []
        return self._kill_together([leader, self._world.random.choice([node for node in owners if node is not leader])])

    def kill_most(self) -> list[str]:
        """P3: all but one die at once, which is more than one commit may remove."""
        owners = self._owners()
        last = self._world.random.choice(owners)
        return self._kill_together([node for node in owners if node is not last])

    def _kill_together(self, victims: list[SimNode]) -> list[str]:
        self._until(lambda: False, 12 * self._interval)
        # Who has another interval than the leader cannot tell when it is late: the others are watched from its timeout.
        return self._kill(victims, 2.0 + (self._timeout if self._world.is_mixed else self._interval) * _DRIFT)

    def stuck_leader(self) -> list[str]:
        """R4: the leader's work does not return while its heartbeats go on; what a dead node owned is owned again."""
        world, owners, leader = self._world, self._owners(), self._leader()
        if len(owners) < 3 or leader is None:
            return []
        leader.fault = Fault(world.random.choice([WORK, (commands.TakeSnapshot,)]), hangs=True, until=float('inf'))
        victim = world.random.choice([node for node in owners if node is not leader])
        world.record(f'drill: the work of {leader.name} hangs, and {victim.name} is killed')
        victim.alive = False
        # The leader is stuck for a timeout before it says so, and its successor watches the dead for another.
        bound = (2 * self._timeout + 3 * self._interval) * _DRIFT + 2.0 + 2 * self._steps_of_push
        found = self._expect(self._all_owned, bound, 'tokens are not owned', settle=False)
        leader.heal()
        # Who owned nothing but pins is not missed until now, and may have to be watched for a whole timeout yet.
        bound = (self._timeout + 2 * self._interval) * _DRIFT + 2.0 + 4 * self._steps_of_push
        return found + self._expect(lambda: not world.promises.unsettled(), bound, 'it is not settled')

    def _kill(self, victims: list[SimNode], slack: float) -> list[str]:
        world = self._world
        others = [node for node in self._owners() if node not in victims]
        before = {node: node.ownership.mine for node in others}
        pins = {node: node.ownership.pin_ids for node in others}
        self._world.record(f'drill: {" and ".join(victim.name for victim in victims)} killed')
        for victim in victims:
            victim.alive = False
        slack += 1.2 * self._interval if world.is_mixed else 0.0  # nodes of different intervals do not beat in step
        bound = self._timeout * _DRIFT + slack + (0.0 if self._world.push else self._interval + self._steps_of_push)
        found = self._expect(lambda: self._all_owned() and not self._world.promises.unsettled(), bound, 'tokens are not owned')
        for node in others:
            lost = [token for token, mine in enumerate(before[node]) if mine and not node.ownership.mine[token]]
            if len(lost) > len(node.ownership.pin_ids - pins[node]):  # a pin that falls back to it may push a token out
                found.append(f'{node.name} lost {lost} to the death of another')
        return found

    def replace(self) -> list[str]:
        """Every node is replaced by one of a new name that joins first: the pool moves once, and the first step costs twice.

        A pin that loses its node by that leaves room there for a token of another.
        """
        world, found, moved = self._world, list[str](), 0
        self._until(lambda: False, HELD_SEC * _DRIFT)
        olds, before = self._owners(), self._whose()
        most = world.pool + max(len(node.ownership.tokens) for node in olds)
        most += sum(len(node.ownership.pin_ids) for node in olds)
        gap = 1.0 + 2 * self._steps_of_push + (world.grace_sec and world.grace_sec * _DRIFT + self._interval)
        for old in olds:
            new = world.spawn(world.new_name(), weight=old.agent.weight)
            world.record(f'drill: {new.name} joins, to replace {old.name}')
            entering = 5.0 + 4 * self._steps_of_push
            found += self._expect(
                lambda new=new: new.agent.is_settled and new.has_lease(),  # type: ignore[misc]
                entering,
                f'{new.name} has not entered',
                settle=False,
            )
            old.leave()
            found += self._expect(
                lambda old=old: not old.alive and self._all_owned(),  # type: ignore[misc]
                10.0 + gap,
                'tokens are not owned',
                gap=gap,
                settle=False,
            )
            self._until(lambda: not world.promises.unsettled(), 1.0 + 2 * self._steps_of_push)
            after = self._whose()
            moved += sum(after.get(token) != name for token, name in before.items())
            before = after
            if found:
                break
        self._until(lambda: False, HELD_SEC * _DRIFT + self._steps_of_push)
        if moved > most and not world.grace_sec and not world.jumps:  # the store's clock tells who is replaced
            found.append(f'{moved} tokens moved, and {most} would do')
        return found

    # --- watching ----------------------------------------------------------------------------------------------------------

    def _tokens(self) -> dict[str, list[int]]:
        """What each node owns."""
        return {node.name: sorted(node.ownership.tokens) for node in self._world.living()}

    def _runs(self) -> dict[str, tuple[str, list[int]]]:
        """Each node's present run, and what it owns."""
        return {node.name: (node.agent.ref.incarnation, sorted(node.ownership.tokens)) for node in self._world.living()}

    def _whose(self) -> dict[int, str]:
        """The owner of each hash token that has one."""
        return {token: node.name for node in self._world.living() for token, own in enumerate(node.ownership.mine) if own}

    def _owned(self) -> int:
        owned = 0
        for node in self._world.nodes:
            if node.has_lease():
                owned |= int.from_bytes(node.ownership.mine, 'big')
        return owned

    def _all_owned(self) -> bool:
        return self._owned() == int.from_bytes(b'\1' * self._world.pool, 'big')

    def _expect(
        self, goal: Callable[[], bool], bound: float, complaint: str, gap: float | None = None, settle: bool = True
    ) -> list[str]:
        """Go on until ``goal``; complain if that takes longer than ``bound``, or any token is unowned longer than ``gap``.

        With ``settle``, go on some more, so that what follows from it has happened as well.
        """
        started = self._world.now
        longest = self._until(goal, bound)
        found = [] if goal() else [f'{complaint} after {self._world.now - started:.2f} s']
        if settle:
            longest = max(longest, self._until(lambda: False, 3 * self._interval * _DRIFT + 3 * self._steps_of_push))
        if gap is not None and longest > gap:
            found.append(f'a token was unowned for {longest:.2f} s')
        return found

    def _until(self, goal: Callable[[], bool], seconds: float) -> float:
        """Let time pass until ``goal`` or ``seconds`` are over; the longest time that any token had no owner."""
        world, longest = self._world, 0.0
        horizon, all_tokens = world.now + seconds, world.pool
        unowned_since: dict[int, float] = {}
        for _ in world.steps(horizon):
            owned = self._owned().to_bytes(all_tokens, 'big')
            if unowned_since or 0 in owned:
                for token, is_owned in enumerate(owned):
                    if is_owned:
                        longest = max(longest, world.now - unowned_since.pop(token, world.now))
                    else:
                        unowned_since.setdefault(token, world.now)
            if goal():
                break
        return max([longest, *(world.now - since for since in unowned_since.values())])
