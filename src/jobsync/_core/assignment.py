"""The assignment: the owner of each token and pin; and its changes, as plans and as readings.

A pool may have a million tokens, so the table is held in flat arrays over one list of names, and a change is a handful of
groups of tokens that share everything except their number. A plan takes such groups to the store, and a reading brings them
back: tokens travel in one form.
"""

from __future__ import annotations

import datetime as dt
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import compress, repeat
from types import MappingProxyType

import attrs

from jobsync._core.records import INITIAL, Eviction, Member, NodeRef, Pin, Rebalance, Revision
from jobsync._core.tokens import NO_TARGETS, Column, Targets, both, mask_of, no_tokens
from jobsync.errors import TimelineChanged

__all__ = ['ABSENT', 'UNOWNED', 'Assignment', 'Changes', 'Plan', 'TokenGroup', 'TokenRow', 'members_after']

UNOWNED = -1
"""In ``owner``: the token's row names no owner. In ``home``: no hint."""
ABSENT = -2
"""In ``owner``: the token has no row (deleted manually, or never written), so its last owner may still hold it."""
_FEW_NAMES = 64
"""Names that are kept, at most, whether or not they are in use."""


@attrs.frozen
class TokenGroup:
    """Tokens that share owner, target, home and version."""

    tokens: Sequence[int] = attrs.field(repr=lambda tokens: f'<{len(tokens)} tokens>')
    """Token numbers, rising, each below ``total_tokens``; never those of pins. In a plan often an ``array``."""
    owner: str | None
    target: str | None = None
    """The name they are being handed to, ``NOBODY`` if they are to be released, None if they stay."""
    home: str | None = None
    """The node that lost them by leaving or dying, and gets them back first if it returns."""
    version: int = 0
    """The number that the plan had which last changed their owner: their fence (promise P7)."""


@attrs.frozen
class Changes:
    """What a reading of the assignment brings: everything, or what was written after a version.

    A difference cannot say which token rows have vanished, so a store whose rows can be deleted manually must answer in full
    whenever that has happened since ``base``.
    """

    version: Revision
    base: Revision | None
    """The version these changes build on; None for a complete reading."""
    members: Mapping[str, Member | None]
    """For each name that may own anything, the run it means. In a difference those that changed, None for names that went."""
    groups: tuple[TokenGroup, ...]
    pins: tuple[Pin, ...]
    """Complete in every reading."""


@attrs.frozen
class Plan:
    """What a commit writes, all or nothing (rule R5)."""

    reason: str
    number: int = 0
    """Above every number ever given in the namespace when the plan was made. The rows whose owner the plan changes carry it as
    their version, and the commit's revision has this number or a higher one."""
    members: Mapping[str, Member | None] = attrs.field(factory=dict)
    """Only the members that change, and None for names that may own nothing any more."""
    groups: tuple[TokenGroup, ...] = ()
    """Only rows that change."""
    pins: tuple[Pin, ...] = ()
    """Pins to write, new or changed."""
    unpinned: frozenset[int] = frozenset()
    """Ids of pins to remove."""
    evictions: tuple[Eviction, ...] = ()
    departed: tuple[NodeRef, ...] = ()
    """Nodes that left: their records go with this commit, if they are still of those runs and still marked as left."""
    absent: tuple[NodeRef, ...] = ()
    """Owners without a record of their own, whose tokens this plan gives away: refused if one of them is registered again."""
    affected: frozenset[str] | None = None
    """The names of the nodes that are to read the new version at once, because they lose or gain something by it or have to
    acknowledge it; None: all nodes. Only hints depend on it (``Backend.wait``)."""
    moved: int = 0
    """Tokens and pins that pass to a new owner."""
    nodes_before: int = 0
    nodes_after: int = 0
    duration_ms: int = 0

    @property
    def is_recorded(self) -> bool:
        """Whether the commit appends a rebalance to the history: it moves tokens or pins, or a node goes by it."""
        return bool(self.moved or self.evictions or self.departed or self.absent)

    def rebalance(self, leader: str, now: dt.datetime) -> Rebalance:
        """Return the record of this plan, committed at the store's time ``now``."""
        counts = self.nodes_before, self.nodes_after, self.moved, self.duration_ms
        return Rebalance(now, self.reason, leader, *counts, self.number)


@attrs.frozen
class TokenRow:
    """The row of one token."""

    owner: str | None
    target: str | None
    home: str | None
    version: int
    absent: bool = False


def members_after(members: Mapping[str, Member], changes: Mapping[str, Member | None]) -> dict[str, Member]:
    """Return the members after ``changes``, of a plan or of a reading."""
    return {name: member for name, member in {**members, **changes}.items() if member is not None}


@attrs.frozen(eq=False)
class Assignment:
    """The owners of all tokens and pins at one version. Never changed: ``apply`` makes the next one.

    ``owner`` and ``home`` hold positions in ``names``, or ``UNOWNED``, or (owner only) ``ABSENT``; they and ``since`` are as
    long as the pool and must not be written to.
    """

    version: Revision
    members: Mapping[str, Member]
    names: tuple[str, ...]
    owner: array[int] = attrs.field(repr=False)
    home: array[int] = attrs.field(repr=False)
    since: array[int] = attrs.field(repr=False)
    """For each token the number of the plan that last changed its owner: its fence (promise P7)."""
    targets: Targets = attrs.field(repr=False)
    """Only tokens being handed over: to a name, or to ``NOBODY``."""
    pins: Mapping[int, Pin] = attrs.field(repr=False)

    @classmethod
    def empty(cls, total_tokens: int) -> Assignment:
        """Return the assignment in which no token has a row."""
        return cls(
            version=INITIAL,
            members=MappingProxyType({}),
            names=(),
            owner=array('i', [ABSENT]) * total_tokens,
            home=array('i', [UNOWNED]) * total_tokens,
            since=array('q', [0]) * total_tokens,
            targets=NO_TARGETS,
            pins=MappingProxyType({}),
        )

    @property
    def total_tokens(self) -> int:
        """The size of the pool, pins not counted."""
        return len(self.owner)

    def apply(self, changes: Changes) -> Assignment:
        """Return the assignment after ``changes``, which must be complete or build on exactly this version.

        Raises ``TimelineChanged`` if they name tokens outside of the pool: other settings have taken the place of this node's.
        """
        if changes.base not in (None, self.version):
            raise ValueError(f'changes build on {changes.base}, not on {self.version}')
        start = self if changes.base is not None else Assignment.empty(self.total_tokens)
        positions = {name: position for position, name in enumerate(start.names)}
        position, total = positions.setdefault, self.total_tokens
        owner, home, since = (Column(values, is_shared=start is self) for values in (start.owner, start.home, start.since))
        has_homes = start is self and 0 in mask_of(start.home, UNOWNED, len(start.names))
        for group in changes.groups:
            tokens, name, home_name = group.tokens, group.owner, group.home
            if tokens and (tokens[0] < 0 or tokens[-1] >= total):
                beyond = tokens[0] if tokens[0] < 0 else tokens[-1]
                raise TimelineChanged(f'the assignment has a token {beyond}, and the pool has {total}')
            owner.write(tokens, UNOWNED if name is None else position(name, len(positions)))
            if home_name is not None or has_homes:
                home.write(tokens, UNOWNED if home_name is None else position(home_name, len(positions)))
            since.write(tokens, group.version)
        names, owners, homes = tuple(positions), owner.values, home.values
        # t=0  pods come and go, each with a name of its own, and own tokens for a while
        # t=1  a year later the nodes that are still there would have all these names, and copy them with each version
        # So those in use are counted anew whenever there are twice as many names.
        if start is self and len(names).bit_length() > max(len(start.names), _FEW_NAMES).bit_length():
            names, owners, homes = _in_use(names, owners, homes)
        return Assignment(
            version=changes.version,
            members=MappingProxyType(members_after(start.members, changes.members)),
            names=names,
            owner=owners,
            home=homes,
            since=since.values,
            targets=start.targets.changed(((group.tokens, group.target) for group in changes.groups), self.total_tokens),
            pins=MappingProxyType({pin.id: pin for pin in changes.pins}),
        )

    def row(self, token: int) -> TokenRow:
        """Return the row of one hash token."""
        owner, home = self.owner[token], self.home[token]
        return TokenRow(
            owner=self.names[owner] if owner >= 0 else None,
            target=self.targets.get(token),
            home=self.names[home] if home >= 0 else None,
            version=self.since[token],
            absent=owner == ABSENT,
        )

    def owned_by(self, name: str) -> array[int]:
        """Return the hash tokens whose owner is ``name``, rising, those being handed over included."""
        return array('i', compress(range(len(self.owner)), self.owned_mask(name)))

    def owned_mask(self, name: str) -> bytes:
        """Return for each hash token 1 if its owner is ``name``, those being handed over included, else 0."""
        if name not in self.names:
            return bytes(len(self.owner))
        return mask_of(self.owner, self.names.index(name), len(self.names))

    @cached_property
    def loads(self) -> Mapping[str, int]:
        """How many hash tokens each name owns that owns any, those being handed over included."""
        return {self.names[at]: count for at, count in Counter(self.owner).items() if at >= 0}

    @cached_property
    def moves(self) -> Mapping[tuple[str, str], int]:
        """How many hash tokens are being handed over, by owner and target (which may be ``NOBODY``)."""
        counts = Counter(self.targets.beside(self.owner))
        return {(self.names[at], self.targets.names[to]): count for (at, to), count in counts.items() if at >= 0}

    def by_owner(self) -> Mapping[str, Sequence[int]]:
        """Return the hash tokens of each name that owns any, rising, by name, those being handed over included."""
        found: defaultdict[int, array[int]] = defaultdict(no_tokens)
        for token, at in enumerate(self.owner):
            found[at].append(token)
        return {name: found[at] for name, at in sorted((self.names[at], at) for at in found if at >= 0)}

    @cached_property
    def owners(self) -> frozenset[int]:
        """What ``owner`` holds anywhere: positions in ``names``, ``UNOWNED``, ``ABSENT``."""
        return frozenset(self.owner)

    def groups(self) -> Iterator[TokenGroup]:
        """Yield every token that has a row, in groups: what a complete reading carries."""
        rows: dict[tuple[int, int, int, int], array[int]] = defaultdict(no_tokens)
        targets = self.targets.at or repeat(UNOWNED)
        for token, row in enumerate(zip(self.owner, self.home, self.since, targets, strict=False)):
            rows[row].append(token)
        for (owner, home, since, target), tokens in rows.items():
            if owner == ABSENT:
                continue
            yield TokenGroup(
                tokens=tokens,
                owner=self.names[owner] if owner >= 0 else None,
                target=self.targets.names[target] if target >= 0 else None,
                home=self.names[home] if home >= 0 else None,
                version=since,
            )

    @cached_property
    def pin_of(self) -> Mapping[str, Pin]:
        """The pins by the task they are for."""
        return {pin.task_id: pin for pin in self.pins.values()}

    @cached_property
    def group_tasks(self) -> Mapping[str, tuple[str, ...]]:
        """For each group of items, the tasks that it is made of, by the ids of their pins."""
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for pin in self.pins.values():
            if pin.group:
                groups[pin.group].append(pin.task_id)
        return {group: tuple(tasks) for group, tasks in groups.items()}

    def fence(self, ref: NodeRef, key: str, token: int) -> int | None:
        """Return the fence (promise P7) under which this run owns the task with this key and hash token; None if it does not.

        The fence is the number of the plan that last changed the owner. A run that takes over from another of its name counts as
        a change, and so does the removal of a pin.
        """
        member, pin = self.members.get(ref.name), self.pin_of.get(key)
        if member is None or member.incarnation != ref.incarnation:
            return None
        if pin is not None:
            return max(pin.version, member.since) if pin.owner == ref.name else None
        at = self.owner[token]
        return max(self.since[token], member.since) if at >= 0 and self.names[at] == ref.name else None

    def asked_of(self, token: int) -> str | None:
        """Return the owner of a token or pin that is to be handed over; None for any other."""
        pin = self.pins.get(token)
        if pin is not None:
            return pin.owner if pin.target is not None else None
        at = self.owner[token] if token in self.targets else UNOWNED
        return self.names[at] if at >= 0 else None

    @cached_property
    def has_absent(self) -> bool:
        """Whether any token has no row."""
        return 1 in mask_of(self.owner, ABSENT, len(self.names))

    @cached_property
    def _receivers(self) -> dict[str, bool]:
        """What ``receives`` has returned: a node calls it for its own name after each of its steps."""
        return {}

    def receives(self, name: str) -> bool:
        """Return whether a token or pin is being handed over to this name."""
        if name not in self._receivers:
            self._receivers[name] = self.targets.receives(name) or any(pin.target == name for pin in self.pins.values())
        return self._receivers[name]

    def awaits(self, name: str) -> bool:
        """Return whether the leader may wait until this node has acknowledged the version, whatever it changes for the node.

        It waits for each owner that is to hand something over, and for every node while a token has no row.
        """
        if self.members and self.has_absent:
            return True
        if self.targets and 1 in both(self.owned_mask(name), self.targets.mask):
            return True
        return any(pin.owner == name and pin.target is not None for pin in self.pins.values())

    def owner_of(self, key: str, token: int) -> str | None:
        """Return the name that owns the task with this key and hash token, whether or not the task is being handed over."""
        pin = self.pin_of.get(key)
        if pin is not None:
            return pin.owner
        at = self.owner[token]
        return self.names[at] if at >= 0 else None

    @property
    def unplaced(self) -> tuple[Pin, ...]:
        """The pins without an owner and without a target: no live node matches their patterns."""
        return tuple(pin for pin in self.pins.values() if pin.owner is None and pin.target is None)

    @property
    def is_unowned(self) -> bool:
        """Whether no token or pin has an owner or is to have one."""
        return not self.targets and all(o < 0 for o in self.owner) and all(p.owner is None for p in self.pins.values())


def _in_use(names: tuple[str, ...], owner: array[int], home: array[int]) -> tuple[tuple[str, ...], array[int], array[int]]:
    """Return the names that own anything or are a home, and ``owner`` and ``home`` with their positions among these.

    Where most names are in use, as after many nodes have joined, everything stays as it is.
    """
    used = sorted(at for at in {*owner, *home} if at >= 0)
    if 2 * len(used) > len(names):
        return names, owner, home
    places = [*range(len(names)), ABSENT, UNOWNED]  # the last two are at -2 and -1
    for place, at in enumerate(used):
        places[at] = place
    new_owner, new_home = (array('i', map(places.__getitem__, values)) for values in (owner, home))
    return tuple(names[at] for at in used), new_owner, new_home
