"""Drills on a quiet cluster: one thing happens at a time, and the promises with a bound are held against it.

Bounds are those of a backend that pushes; without push each step may wait for a heartbeat besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jobsync.core.admission import HELD_SEC

if TYPE_CHECKING:
    from jobsync.testing.simulation.node import SimNode
    from jobsync.testing.simulation.world import World

__all__ = ['Drills']

_TIMEOUT_SEC, _INTERVAL_SEC = 15.0, 5.0
_DRIFT = 1.05
"""A clock that is slow by as much as they are here lengthens a bound by this factor."""
_OUTAGE_SEC = 40.0


class Drills:
    """Runs them in turn; each returns what it found wrong."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._steps_of_push = 0.0 if world.push else (1.1 * _INTERVAL_SEC + 0.5) * _DRIFT

    def run(self) -> list[str]:
        """All drills, if there is a settled cluster to run them on."""
        found: list[str] = []
        drills = (
            self.outage, self.lock, self.join, self.replace, self.rejoin, self.drain, self.leave,
            self.kill, self.kill_changed, self.kill_two,
        )  # fmt: skip
        for drill in drills:
            if len(self._owners()) >= 2:
                found += [f'{drill.__name__}: {text}' for text in drill()]
                found += [f'{drill.__name__}: {text}' for text in self._world.unsettled()]
            if found:
                break
        return found

    def _owners(self) -> list[SimNode]:
        return [node for node in self._world.living() if node.agent.weight > 0]

    def outage(self) -> list[str]:
        """P4: the store is away for much longer than a lease; the same nodes own the same tokens afterwards."""
        world = self._world
        before = self._tokens()
        world.down_until = world.now + _OUTAGE_SEC
        self._until(lambda: False, _OUTAGE_SEC + 3 * _INTERVAL_SEC)
        after = self._tokens()
        return [] if after == before else [f'tokens moved from {before} to {after}']

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
            gained = {token for token in now - before[node] if token < world.config.tokens}
            pins_lost = [token for token in before[node] - now if token >= world.config.tokens]
            if len(gained) > len(pins_lost):  # a pin may prefer the newcomer, and leave room for a token
                found.append(f'{node.name} gained {sorted(gained)} though another one joined')
        return found

    def leave(self) -> list[str]:
        """P2: what a leaving node owned has new owners within the hand-over."""
        node = self._world.random.choice(self._owners())
        self._world.record(f'drill: {node.name} leaves')
        node.leave()
        bound = 1.0 + 2 * self._steps_of_push + (self._world.grace_sec and self._world.grace_sec * _DRIFT + _INTERVAL_SEC)
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
        return found + self._expect(lambda: not self._world.unsettled(), bound, 'it is not settled')

    def kill(self) -> list[str]:
        """P3: what a dead node owned has new owners within the timeout and 2 s; nobody else's tokens are touched."""
        return self._kill([self._world.random.choice(self._owners())], 2.0)

    def kill_changed(self) -> list[str]:
        """The same of the leader, or of whoever else, at most an interval after something has changed."""
        world, owners = self._world, self._owners()
        task = world.random.choice(world.tasks)
        leader = next((node for node in owners if node.agent.epoch is not None), owners[0])
        self._until(lambda: False, world.random.uniform(12, 13) * _INTERVAL_SEC)
        target = world.random.choice(owners)
        world.record(f'drill: lock {task} to {target.name}, shortly before a death')
        world.edit_lock(task, (target.name, '%'))
        self._until(lambda: False, self._steps_of_push * 3 + world.random.uniform(0.5, 1) * _INTERVAL_SEC)
        return self._kill([world.random.choice([leader, leader, *owners])], 2.0)

    def kill_two(self) -> list[str]:
        """The same where another node dies with the leader; it is watched from when the leader is late, an interval later.

        Nodes that beat in step know within a fifth of an interval that it is; that takes them a while to reach.
        """
        owners = self._owners()
        leaders = [node for node in owners if node.agent.epoch is not None]
        if len(owners) < 3 or not leaders:
            return []
        other = self._world.random.choice([node for node in owners if node is not leaders[0]])
        self._until(lambda: False, 12 * _INTERVAL_SEC)
        return self._kill([leaders[0], other], 2.0 + 1.2 * _INTERVAL_SEC * _DRIFT)

    def _kill(self, victims: list[SimNode], slack: float) -> list[str]:
        others = [node for node in self._owners() if node not in victims]
        before = {node: node.ownership.mine for node in others}
        pins = {node: node.ownership.pin_ids for node in others}
        self._world.record(f'drill: {" and ".join(victim.name for victim in victims)} killed')
        for victim in victims:
            victim.alive = False
        bound = _TIMEOUT_SEC * _DRIFT + slack + (0.0 if self._world.push else _INTERVAL_SEC + self._steps_of_push)
        found = self._expect(lambda: self._all_owned() and not self._world.unsettled(), bound, 'tokens are not owned')
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
        most = world.config.tokens + max(len(node.ownership.tokens) for node in olds)
        most += sum(len(node.ownership.pin_ids) for node in olds)
        gap = 1.0 + 2 * self._steps_of_push + (world.grace_sec and world.grace_sec * _DRIFT + _INTERVAL_SEC)
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
            self._until(lambda: not world.unsettled(), 1.0 + 2 * self._steps_of_push)
            after = self._whose()
            moved += sum(after.get(token) != name for token, name in before.items())
            before = after
            if found:
                break
        self._until(lambda: False, HELD_SEC * _DRIFT + self._steps_of_push)
        if moved > most and not world.grace_sec:
            found.append(f'{moved} tokens moved, and {most} would do')
        return found

    # --- watching ----------------------------------------------------------------------------------------------------------

    def _tokens(self) -> dict[str, list[int]]:
        return {node.name: sorted(node.ownership.tokens) for node in self._world.living()}

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
        return self._owned() == int.from_bytes(b'\1' * self._world.config.tokens, 'big')

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
            longest = max(longest, self._until(lambda: False, 3 * _INTERVAL_SEC * _DRIFT + 3 * self._steps_of_push))
        if gap is not None and longest > gap:
            found.append(f'a token was unowned for {longest:.2f} s')
        return found

    def _until(self, goal: Callable[[], bool], seconds: float) -> float:
        """Let time pass until ``goal`` or ``seconds`` are over; the longest time that any token had no owner."""
        world, longest = self._world, 0.0
        horizon, all_tokens = world.now + seconds, world.config.tokens
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
