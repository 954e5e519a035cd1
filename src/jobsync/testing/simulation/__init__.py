"""A whole cluster in one thread and virtual time: real agents, the memory backend, and a seeded adversary between them."""

from jobsync.testing.simulation.outcome import Outcome, WorldConfig
from jobsync.testing.simulation.world import World

__all__ = ['Outcome', 'World', 'WorldConfig']
