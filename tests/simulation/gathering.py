"""What may happen while a leader gathers the acknowledgements of many owners: here of two or more."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.scenarios import SHORT, Stage

from jobsync.testing.simulation.node import SimNode

_OWNERS = 5
_TOKENS = 60
_SHARE = _TOKENS // (_OWNERS + 1)


class _Gathering:
    """A cluster in which a node joins and one of the owners does not acknowledge, and what that does to the others."""

    def __init__(self) -> None:
        self.stage = Stage(tokens=_TOKENS, gathers=True)
        self.nodes = self.stage.cluster(*[SHORT] * _OWNERS)
        self.world = self.stage.world
        (self.leader,) = (node for node in self.nodes if node.agent.epoch is not None)

    def one_silent(self) -> SimNode:
        """Stop one node for longer than the timeout, and start another."""
        self.silent = self.nodes[-1]
        self.silent.paused_until = self.world.now + 60.0
        return self.stage.start('newcomer')

    def until_it_gathers(self) -> None:
        """Let time pass until some have acknowledged, and the leader waits for the others."""

        def waits() -> bool:
            gathering = self.leader.agent._membership.leader_term._state.gathering
            return gathering.released_at is not None and gathering.seen_at is None

        self.stage.expect(waits, 5.0, 'nothing is gathered')

    def given_by_others(self, newcomer: SimNode) -> bool:
        """Return whether the newcomer owns what it gets, without what the silent node is to release."""
        return len(newcomer.ownership.tokens) >= _SHARE - _SHARE // _OWNERS and newcomer.has_lease()

    def until(self, goal: Callable[[], bool], within: float, complaint: str) -> None:
        """Let time pass until the goal is reached, and complain of each token that has no owner for a second meanwhile."""
        world, since, late = self.world, dict[int, float](), set[int]()
        for _ in world.steps(world.now + within):
            owned = {token for node in world.living() if node.has_lease() for token in node.ownership.tokens}
            for token in range(world.pool):
                if token in owned:
                    since.pop(token, None)
                elif world.now - since.setdefault(token, world.now) > 1.0:
                    late.add(token)
            if goal():
                break
        else:
            self.stage.complain(f'{complaint} after {within:g} s')
        if late:
            self.stage.complain(f'P2: tokens {sorted(late)} have no owner for more than a second')


def one_of_several_is_silent() -> list[str]:
    """One owner does not acknowledge: the others' tokens pass on within a second, its own once it is dead."""
    scene = _Gathering()
    newcomer = scene.one_silent()
    scene.until(lambda: scene.given_by_others(newcomer), 5.0, 'the newcomer has no share')
    scene.stage.expect_settled(80.0)
    return scene.stage.broken()


def the_leader_dies_while_it_gathers() -> list[str]:
    """What was released has no owner: it has one again within the timeout and 2 s, and the next leader gathers anew."""
    scene = _Gathering()
    newcomer = scene.one_silent()
    scene.until_it_gathers()
    scene.leader.alive = False
    scene.silent.paused_until = scene.world.now + 1.0
    scene.stage.expect(lambda: scene.given_by_others(newcomer), 18.0, 'the newcomer has no share')
    scene.stage.expect_settled(10.0)
    return scene.stage.broken()


def an_owner_leaves_while_the_leader_gathers() -> list[str]:
    """A plan that removes a node waits for no acknowledgement: its tokens have new owners within a second."""
    scene = _Gathering()
    newcomer = scene.one_silent()
    scene.until_it_gathers()
    leaving = scene.nodes[1]
    leaving.leave()
    scene.until(lambda: not leaving.alive and scene.given_by_others(newcomer), 5.0, 'the newcomer has no share')
    scene.stage.expect_settled(80.0)
    return scene.stage.broken()
