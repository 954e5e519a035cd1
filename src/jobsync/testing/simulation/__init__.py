"""A whole cluster in one thread and virtual time: real agents, the memory backend, and a seeded adversary between them.

``run`` puts a ``World`` through a storm, a calm and drills, and returns the ``Outcome``. Every part of the simulator imports
only parts below itself, so that a scripted test can use a ``World`` without storm or drills:

    run -> storm, drills -> process_faults, store_faults, operators, settlement -> world -> promises -> node -> backends
"""

from jobsync.testing.simulation.outcome import Outcome, WorldConfig
from jobsync.testing.simulation.run import run
from jobsync.testing.simulation.world import World

__all__ = ['Outcome', 'World', 'WorldConfig', 'run']
