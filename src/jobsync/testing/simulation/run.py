"""One simulated run: a storm, a calm, and drills on the cluster that has settled.

Only an event can make a second owner (time alone only ends leases), so P1 is checked after every step of every agent, against
true time and the true state of all processes (``promises``). When the storm is over, the state is checked (``settlement``):
every token and task has exactly one owner, loads are balanced to one token per unit of weight, and pins are in their place
(P5, P6). Then the drills hold P2 to P6 against their bounds.
"""

from __future__ import annotations

from jobsync.testing.simulation.drills import Drills
from jobsync.testing.simulation.outcome import Outcome, WorldConfig
from jobsync.testing.simulation.settlement import unsettled
from jobsync.testing.simulation.storm import Storm
from jobsync.testing.simulation.world import World

__all__ = ['run']

_MIXED_CALM = 1.7
"""How much longer a cluster takes to settle whose nodes have different timeouts."""


def run(seed: int, config: WorldConfig | None = None) -> Outcome:
    """Simulate one cluster, fully determined by its seed."""
    world = World(seed, config)
    first = world.names[: max(1, len(world.names) // 2)]
    for name in first:
        world.spawn(name)
    Storm(world).start()
    world.run_until(world.config.storm_sec)
    world.calm_down()
    for name in () if world.living() else first:  # in some storms all leave, and only newcomers show what became of the store
        world.spawn(name)
    world.run_until(world.now + world.config.calm_sec * (_MIXED_CALM if world.is_mixed else 1))
    findings = list(unsettled(world))
    if not findings and not world.promises.violations and world.config.drills:
        findings = Drills(world).run()
    return world.outcome(findings)
