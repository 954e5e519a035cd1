"""What a simulated process meets: virtual time, chance, and a store that may be away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Protocol

from jobsync.backend import Backend, NodeRef
from jobsync.testing.editable_store import EditableStore

if TYPE_CHECKING:
    from jobsync.testing.simulation.node import SimNode

__all__ = ['Environment']


class Environment(Protocol):
    """The part of ``World`` that a process and its way to the store use."""

    now: float
    """True time, in seconds."""
    random: Random
    quiet: bool
    """Whether the storm is over: no call fails or takes long by chance."""
    tasks: list[str]
    store: EditableStore
    backend: Backend
    down_until: float
    """True time until which no call reaches the store."""
    read_only_until: float
    """True time until which the store refuses writes."""

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Run ``action`` at true time ``time``."""

    def new_id(self) -> str:
        """Return a random id, as an incarnation has one."""

    def latency(self) -> float:
        """Return the seconds that one way to the store or back takes."""

    def fails(self, probability: float) -> bool:
        """Return whether an event of this probability happens; never where ``quiet``."""

    def record(self, text: str) -> None:
        """Add a line to the history."""

    def revision(self) -> object:
        """Return the namespace's revision, for comparison before and after a call."""

    def announce(self) -> None:
        """Send a change hint to every process."""

    def watches(self, node: SimNode) -> Iterable[SimNode]:
        """Return the other living processes on the host of this one, of which each knows at once that it has ended."""

    def take_lock(self, node: SimNode, ref: NodeRef) -> None:
        """Have a process hold the lock of its incarnation, which is about to register."""

    def is_over(self, ref: NodeRef, host: int) -> bool:
        """Return whether a host proves that a run is over."""

    def shift(self, pool: int) -> int:
        """Return the bit at which the tokens of a pool begin in what a process claims."""
