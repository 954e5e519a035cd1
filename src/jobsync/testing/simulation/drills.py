"""Drills on a quiet cluster: one event at a time, with the bounds that the promises P2 to P6 state.

Bounds are those of a backend with push. Without push, or where hints name the wrong nodes, each step may wait for one more
heartbeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from jobsync._core.agent import commands
from jobsync._core.leader.admission import HELD_SEC
from jobsync.testing.simulation.node import WORK, NodeFault, SimNode
from jobsync.testing.simulation.operators import Operators
from jobsync.testing.simulation.settlement import unsettled
from jobsync.testing.simulation.world import World

__all__ = ['Drills']

_DRIFT = 1.05
"""The factor by which the slowest clock of the simulation lengthens a bound."""
_NODES = 4
"""How many nodes a drill needs, where the world has as many names."""
_STORM_SEC = 10.0
_STORMS = 4
"""One world in this many runs the drills that take long to simulate."""


class Drills:
    """Runs the drills in turn. Each returns its findings."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._interval = max(interval for interval, _ in world.timings)
        self._timeout = max(timeout for _, timeout in world.timings)
        self._steps_of_push = 0.0 if world.is_prompt else (1.1 * self._interval + 0.5) * _DRIFT

    def run(self) -> list[str]:
        """Run the drills until one finds something; without a node that may own tokens, run none."""
        found: list[str] = []
        drills = (
            ('P4', self.outage), ('P4', self.read_only), ('R9', self.refusal), ('P6', self.lock), ('P2', self.join),
            ('R5', self.join_in_a_storm), ('P5', self.replace), ('P2', self.rejoin), ('P2', self.drain), ('P2', self.leave),
            ('P3', self.kill), ('P3', self.kill_changed), ('P3', self.kill_two), ('R4', self.stuck_leader),
            ('P3', self.kill_most), ('P2', self.stall),
        )  # fmt: skip
        for promise, drill in drills if self._owners() else ():
            found += [f'P2: fill_up: {text}' for text in self._fill_up()]
            if not found:
                found += [f'{promise}: {drill.__name__}: {text}' for text in drill()]
                found += [f'{text}, after {drill.__name__}' for text in unsettled(self._world)]
            if found:
                break
        return found

    def _fill_up(self) -> list[str]:
        """Start nodes until there are enough for any drill."""
        world = self._world
        free = world.free_names()
        missing = free[: max(0, _NODES - len(self._owners()))]
        for name in missing:
            world.spawn(name)
        bound = 2 * HELD_SEC + 4 * self._steps_of_push
        return self._expect(lambda: not any(unsettled(world)), bound, 'it is not settled') if missing else []

    def _owners(self) -> list[SimNode]:
        return [node for node in self._world.living() if node.agent.weight > 0]

    def _leader(self) -> SimNode | None:
        return next((node for node in self._owners() if node.agent.epoch is not None), None)

    # --- the store ----------------------------------------------------------------------------------------------------------

    def outage(self) -> list[str]:
        """P4: take the store away for some time; afterwards each run owns the tokens that it owned before."""
        return self._sit_out('away')

    def read_only(self) -> list[str]:
        """P4: let the store refuse writes for some time; afterwards each run owns the tokens that it owned before."""
        return self._sit_out('read-only')

    def refusal(self) -> list[str]:
        """R9: let the store refuse every node for some time; afterwards each run owns the tokens that it owned before."""
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

    # --- changes -------------------------------------------------------------------------------------------------------

    def lock(self) -> list[str]:
        """P6: lock a task to a node; the node owns it within 2 s."""
        world = self._world
        owners = self._owners()
        task = world.random.choice(world.tasks)
        target = world.random.choice(owners)
        world.record(f'drill: lock {task} to {target.name}')
        world.edit_lock(task, (target.name,))
        bound = 2.0 + 3 * self._steps_of_push
        return self._expect(lambda: target.works_on(task), bound, f'{task} is not on {target.name}')

    def join(self) -> list[str]:
        """P2, P5: let a node join; it gets its share, no token is unowned for long, and none moves between the others."""
        world = self._world
        free = world.free_names()
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
        """R5: let a node join while two loops edit task locks; it gets its share in spite of them."""
        world = self._world
        free = world.free_names()
        if not free or world.random.random() > 1 / _STORMS:
            return []
        world.record(f'drill: {free[0]} joins while locks are edited')
        Operators(world).edit_until(world.now + _STORM_SEC)
        newcomer = world.spawn(free[0])
        return self._expect(
            lambda: newcomer.agent.is_planned and newcomer.has_lease() and not newcomer.ownership.is_empty,
            _STORM_SEC if world.is_prompt else _STORM_SEC + 4 * self._steps_of_push,
            f'{newcomer.name} owns nothing',
        )

    def leave(self) -> list[str]:
        """P2: let a node leave; its tokens have new owners within the hand-over."""
        node = self._world.random.choice(self._owners())
        self._world.record(f'drill: {node.name} leaves')
        node.leave()
        bound = 1.0 + 2 * self._steps_of_push + (self._world.grace_sec and self._world.grace_sec * _DRIFT + self._interval)
        return self._expect(self._all_owned, 10.0 + bound, 'tokens are not owned', gap=bound)

    def rejoin(self) -> list[str]:
        """P2: let a node leave and return within the grace; it has its tokens again, and no other node's tokens move."""
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
        """P2: give a node weight 0; it soon owns no token, and none is unowned for longer than a hand-over takes."""
        return self._set_aside('is drained', lambda node: node.weigh(0.0), lambda node: node.weigh(node.agent.config.weight))

    def stall(self) -> list[str]:
        """P2: the code of a node hangs; the node soon owns no token, and none is unowned for longer than a hand-over takes."""
        return self._set_aside('makes no progress', lambda node: node.stall(True), lambda node: node.stall(False))

    def _set_aside(self, how: str, begin: Callable[[SimNode], None], end: Callable[[SimNode], None]) -> list[str]:
        node = self._world.random.choice(self._owners())
        self._world.record(f'drill: {node.name} {how}')
        begin(node)
        bound = 5.0 + 4 * self._steps_of_push
        found = self._expect(
            lambda: node.ownership.is_empty and self._all_owned(), bound, f'{node.name} owns', gap=1.0 + self._steps_of_push
        )
        end(node)
        return found + self._expect(lambda: not any(unsettled(self._world)), bound, 'it is not settled')

    # --- deaths -------------------------------------------------------------------------------------------------------------

    def kill(self) -> list[str]:
        """P3: kill a node; its tokens have new owners within the timeout and 2 s, and no other node loses a token."""
        return self._kill([self._world.random.choice(self._owners())], 2.0)

    def kill_changed(self) -> list[str]:
        """P3: kill the leader or another node at most one interval after a change."""
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
        """P3: kill the leader and another node; the other is watched from when the leader is late, one interval later.

        Nodes that beat in step notice within a tenth of an interval that the leader is late. To get into step takes them a while.
        """
        owners, leader = self._owners(), self._leader()
        if len(owners) < 3 or leader is None:
            return []
        return self._kill_together([leader, self._world.random.choice([node for node in owners if node is not leader])])

    def kill_most(self) -> list[str]:
        """P3: kill all nodes except one, which is more than one commit may remove."""
        owners = self._owners()
        last = self._world.random.choice(owners)
        return self._kill_together([node for node in owners if node is not last])

    def _kill_together(self, victims: list[SimNode]) -> list[str]:
        self._until(lambda: False, 12 * self._interval)
        # A node of another interval than the leader's cannot notice that it is late: the others are watched from its timeout.
        return self._kill(victims, 2.0 + (self._timeout if self._world.is_mixed else self._interval) * _DRIFT)

    def stuck_leader(self) -> list[str]:
        """R4: let the leader's work hang while its heartbeats go on, and kill another node; its tokens are owned again."""
        world, owners, leader = self._world, self._owners(), self._leader()
        if len(owners) < 3 or leader is None:
            return []
        leader.fault = NodeFault(world.random.choice([WORK, (commands.TakeSnapshot,)]), hangs=True, until=math.inf)
        victim = world.random.choice([node for node in owners if node is not leader])
        world.record(f'drill: the work of {leader.name} hangs, and {victim.name} is killed')
        victim.alive = False
        # The leader is stuck for a timeout before it reports that, and its successor watches the dead node for another.
        bound = (2 * self._timeout + 3 * self._interval) * _DRIFT + 2.0 + 2 * self._steps_of_push
        found = self._expect(self._all_owned, bound, 'tokens are not owned', settle=False)
        leader.heal()
        # A dead node that owned only pins is noticed now, and may have to be watched for one more timeout.
        bound = (self._timeout + 2 * self._interval) * _DRIFT + 2.0 + 4 * self._steps_of_push
        return found + self._expect(lambda: not any(unsettled(world)), bound, 'it is not settled')

    def _kill(self, victims: list[SimNode], slack: float) -> list[str]:
        world = self._world
        others = [node for node in self._owners() if node not in victims]
        before = {node: node.ownership.mine for node in others}
        pins = {node: node.ownership.pin_ids for node in others}
        self._world.record(f'drill: {" and ".join(victim.name for victim in victims)} killed')
        for victim in victims:
            victim.alive = False
        slack += 1.2 * self._interval if world.is_mixed else 0.0  # nodes of different intervals do not beat in step
        others_of = [{other.host for other in world.living() if other not in victims}, {victim.host for victim in victims}]
        is_known = world.hosts and others_of[1] <= others_of[0]
        bound = 2.0 + 3 * self._steps_of_push
        if not is_known:
            bound = self._timeout * _DRIFT + slack + (0.0 if self._world.is_prompt else self._interval + self._steps_of_push)
        found = self._expect(lambda: self._all_owned() and not any(unsettled(self._world)), bound, 'tokens are not owned')
        for node in others:
            lost = [token for token, mine in enumerate(before[node]) if mine and not node.ownership.mine[token]]
            if len(lost) > len(node.ownership.pin_ids - pins[node]):  # a pin that falls back to it may push a token out
                found.append(f'{node.name} lost {lost} to the death of another')
        return found

    def replace(self) -> list[str]:
        """P5: replace every node by one of a new name that joins first: the pool moves once, and the first step costs twice.

        Each pin may cost one more move, because it takes up or frees the room of a token.
        """
        world, found, moved = self._world, list[str](), 0
        self._until(lambda: False, HELD_SEC * _DRIFT)
        olds, before = self._owners(), self._owner_of()
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
            self._until(lambda: not any(unsettled(world)), 1.0 + 2 * self._steps_of_push)
            after = self._owner_of()
            moved += sum(after.get(token) != name for token, name in before.items())
            before = after
            if found:
                break
        self._until(lambda: False, HELD_SEC * _DRIFT + self._steps_of_push)
        if moved > most and not world.grace_sec and not world.jumps:  # the store's clock shows which node is replaced
            found.append(f'{moved} tokens moved, and {most} would do')
        return found

    # --- observation ----------------------------------------------------------------------------------------------------------

    def _tokens(self) -> dict[str, list[int]]:
        """Return the tokens of each node by its name."""
        return {node.name: sorted(node.ownership.tokens) for node in self._world.living()}

    def _runs(self) -> dict[str, tuple[str, list[int]]]:
        """Return the present incarnation and the tokens of each node by its name."""
        return {node.name: (node.agent.ref.incarnation, sorted(node.ownership.tokens)) for node in self._world.living()}

    def _owner_of(self) -> dict[int, str]:
        """Return the owner of each hash token that has one."""
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
        """Run until ``goal``; return a finding if that takes longer than ``bound``, or a token is unowned longer than ``gap``.

        With ``settle``, run a few more intervals, so that consequences of the event show as well. Times are in seconds.
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
        """Run until ``goal`` or for ``seconds``; return the longest time in seconds that any token had no owner."""
        world, longest = self._world, 0.0
        unowned_since: dict[int, float] = {}
        for _ in world.steps(world.now + seconds):
            if unowned_since or not self._all_owned():
                for token, is_owned in enumerate(self._owned().to_bytes(world.pool, 'big')):
                    if is_owned:
                        longest = max(longest, world.now - unowned_since.pop(token, world.now))
                    else:
                        unowned_since.setdefault(token, world.now)
            if goal():
                break
        return max([longest, *(world.now - since for since in unowned_since.values())])
