"""What one plan removes (rules R5 and R9): nodes that are dead, nodes that left, and owners without a record.

A commit carries only so many comparisons, and each backend declares how many (``BackendInfo.max_removals``). A leader that finds
more to remove begins with the oldest, and goes on with its next plan, which follows at once. A node that is left for later keeps
what it owns until then.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping

import attrs

from jobsync._core.records import Eviction, Member, Node, NodeRef, NodeState

__all__ = ['Removals']

_LONG_AGO = dt.datetime.min.replace(tzinfo=dt.UTC)


@attrs.frozen
class _Removal:
    """What is removed under one name: a record, an owner that is not the record's run, or both."""

    name: str
    eviction: Eviction | None
    departed: NodeRef | None
    absent: NodeRef | None
    since: dt.datetime

    @property
    def size(self) -> int:
        """How many nodes a plan names for this removal."""
        return sum(part is not None for part in (self.eviction, self.departed, self.absent))


@attrs.frozen
class Removals:
    """What one plan removes, and the names that are left for later."""

    evictions: tuple[Eviction, ...]
    departed: tuple[NodeRef, ...]
    absent: tuple[NodeRef, ...]
    later: frozenset[str]

    @classmethod
    def choose(
        cls,
        nodes: Mapping[str, Node],
        alive: Collection[str],
        staying: Collection[NodeRef],
        gone: Mapping[str, Member | None],
        most: int,
    ) -> Removals:
        """Choose what to remove, the oldest first: at most ``most`` nodes, but at least those of one name.

        ``nodes`` are the records; those of the ``alive`` and ``staying`` stay. ``gone`` are the owners that can have no
        lease any more, with the runs that their names mean.
        """
        found = sorted(cls._found(nodes, alive, staying, gone), key=lambda removal: (removal.since, removal.name))
        chosen, named = 0, 0
        while chosen < len(found) and (not chosen or named + found[chosen].size <= most):
            named += found[chosen].size
            chosen += 1
        return cls(
            evictions=tuple(removal.eviction for removal in found[:chosen] if removal.eviction),
            departed=tuple(removal.departed for removal in found[:chosen] if removal.departed),
            absent=tuple(removal.absent for removal in found[:chosen] if removal.absent),
            later=frozenset(removal.name for removal in found[chosen:]),
        )

    @staticmethod
    def _found(
        nodes: Mapping[str, Node], alive: Collection[str], staying: Collection[NodeRef], gone: Mapping[str, Member | None]
    ) -> Iterator[_Removal]:
        for name in nodes.keys() | gone.keys():
            node, member = nodes.get(name), gone.get(name)
            if node is not None and (name in alive or node.ref in staying):
                node = None
            removed = None if node is None else node.ref
            owner = None if member is None else NodeRef(name, member.incarnation)
            removal = _Removal(
                name=name,
                eviction=Eviction(node.ref, node.heartbeat) if node and node.state is NodeState.JOINED else None,
                departed=node.ref if node and node.state is NodeState.LEFT else None,
                absent=owner if owner != removed else None,
                since=_LONG_AGO if node is None else node.created_on,
            )
            if removal.size:
                yield removal
