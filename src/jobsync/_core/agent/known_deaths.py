"""Runs of other nodes that are known to be over, because the host has proven it (the runtime's ``host_lock``).

A suspicion (rule R2) is about silence, ends as soon as a heartbeat is read, and is forgotten by an observer that was blind. What
is known here is about the process, and stays true. So it needs no timeout, and no store has to be read for it. It names an
incarnation, never a name alone::

    t=0  the process of w1 is killed, and its supervisor starts it again under the same name, as incarnation 2
    t=1  a node that has watched incarnation 1 gets its lock, and declares it over
    Declared of the name, that would take the tokens from incarnation 2.
"""

from __future__ import annotations

from jobsync._core.records import NodeRef

__all__ = ['KnownDeaths']

_REMEMBERED = 1000
"""How many runs are remembered: a program that crashes again and again leaves a run each time, for months. Of one that is
forgotten the timeout proves the death."""


class KnownDeaths:
    """The last runs of other nodes that one node knows to be over, through all its incarnations."""

    def __init__(self) -> None:
        self._known: dict[NodeRef, None] = {}
        self._to_declare: dict[NodeRef, None] = {}

    def __contains__(self, ref: NodeRef) -> bool:
        """Return whether a run is known to be over."""
        return ref in self._known

    def take(self, ref: NodeRef) -> None:
        """Take the knowledge that a run is over, which the store is to learn."""
        if ref not in self._known:
            self._to_declare[ref] = None  # first: what is known is not taken again
            self._known[ref] = None
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]

    def next(self) -> NodeRef | None:
        """Return the run to declare over in the store; None if there is none."""
        return next(iter(self._to_declare), None)

    def put_off(self, ref: NodeRef) -> None:
        """Note that the store could not record that a run is over, and have the others come first."""
        if ref in self._to_declare:
            self._to_declare[ref] = self._to_declare.pop(ref)

    def declared(self, ref: NodeRef) -> None:
        """Note that the store has it that a run is over."""
        self._to_declare.pop(ref, None)
