"""The assignment as Redis keeps it, and the next one after a plan.

It is kept as layers of token groups: a base and the entries of a log, each written by one commit; a token's row is that of the
last layer it is in. A layer is packed as its groups without their tokens, in JSON, and the tokens of all, four bytes each: it is
read and written whole, without a look at single tokens. When the layers become many or long, a commit writes all of them as
one. With its layer an entry has the members that its commit changed, for who reads a difference.

Only a commit must look at single tokens, at those of its plan: a row's version stays unless its owner changes. For that the
leader's handle keeps a ``Table``, and the server compares the version that it was made from.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import attrs

from jobsync.core.model import INITIAL, Member, Pin, Revision
from jobsync.core.tokens import ABSENT, UNOWNED, Plan, TokenGroup

__all__ = ['Layer', 'Table', 'Written', 'merged', 'packed', 'unpacked']

Layer = tuple[TokenGroup, ...]

MOST_LAYERS = 64
"""A reader that is further behind reads everything: no more than as many readings would have been."""


def packed(layer: Layer, members: Mapping[str, Member | None] | None = None) -> bytes:
    """A layer, and the members that changed with it, as one blob."""
    groups = [[group.owner, group.target, group.home, group.version, len(group.tokens)] for group in layer]
    head = [groups, {name: attrs.astuple(member) if member else None for name, member in (members or {}).items()}]
    return b'\n'.join([json.dumps(head).encode(), b''.join(_numbers(group.tokens).tobytes() for group in layer)])


def _numbers(tokens: Sequence[int]) -> array[int]:
    numbers = array('i', tokens)
    if sys.byteorder == 'big':
        numbers.byteswap()
    return numbers


def unpacked(blob: bytes) -> tuple[Layer, Mapping[str, Member | None]]:
    """The opposite of ``packed``; nothing of nothing."""
    if not blob:
        return (), {}
    head, _, body = blob.partition(b'\n')
    found, members = json.loads(head)
    groups, at = [], 0
    for owner, target, home, version, count in found:
        tokens = array('i')
        tokens.frombytes(body[at : (at := at + count * tokens.itemsize)])
        groups.append(TokenGroup(_numbers(tokens) if sys.byteorder == 'big' else tokens, owner, target, home, version))
    return tuple(groups), {name: Member(*fields) if fields else None for name, fields in members.items()}


def merged(layers: Sequence[Layer]) -> Layer:
    """One layer that says the same: each token in one group, those alike in the same."""
    layers = [layer for layer in layers if layer]
    if len(layers) < 2:
        return layers[0] if layers else ()
    groups = [group for layer in layers for group in layer if group.tokens]
    last = array('i', [0]) * (1 + max(group.tokens[-1] for group in groups))
    for number, group in enumerate(groups):
        for token in group.tokens:
            last[token] = number
    alike: dict[tuple[str | None, str | None, str | None, int], array[int]] = defaultdict(lambda: array('i'))
    for number, group in enumerate(groups):
        alike[group.owner, group.target, group.home, group.version].extend(
            token for token in group.tokens if last[token] == number
        )
    return tuple(TokenGroup(array('i', sorted(tokens)), *row) for row, tokens in alike.items() if tokens)


@attrs.frozen(eq=False)
class Written:
    """What a commit sends of its plan."""

    table: Table
    """The next one, if the commit is accepted."""
    layer: Layer
    whole: bool
    """Whether the layer takes the place of all before it."""
    pins: tuple[Pin, ...]


@attrs.frozen(eq=False)
class Table:
    """Who owns each token and pin at one version, and since when. Never changed: ``after`` makes the next one."""

    version: Revision = INITIAL
    layers: tuple[Layer, ...] = attrs.field(default=(), repr=False)
    written: int = 0
    """How many tokens all layers have together."""
    names: Mapping[str | None, int] = attrs.field(factory=lambda: {None: UNOWNED}, repr=False)
    """Where ``owner`` points to."""
    owner: array[int] = attrs.field(factory=lambda: array('i'), repr=False)
    """By token; shorter than the pool while its last tokens have no row."""
    since: array[int] = attrs.field(factory=lambda: array('q'), repr=False)
    pins: Mapping[int, Pin] = attrs.field(factory=dict, repr=False)

    @classmethod
    def of(cls, version: Revision, layers: Sequence[Layer], pins: Iterable[Pin]) -> Table:
        """The table that was read."""
        names: dict[str | None, int] = {None: UNOWNED}
        owner, since = array('i'), array('q')
        for group in (group for layer in layers for group in layer):
            position = names.setdefault(group.owner, len(names))
            _reach(owner, since, group.tokens)
            for token in group.tokens:
                owner[token] = position
                since[token] = group.version
        written = sum(len(group.tokens) for layer in layers for group in layer)
        return cls(version, tuple(layers), written, names, owner, since, {pin.id: pin for pin in pins})

    def after(self, plan: Plan, revision: Revision) -> Written:
        """What ``plan`` writes at ``revision``."""
        names, owner, since = dict(self.names), self.owner[:], self.since[:]
        layer: list[TokenGroup] = []
        for group in plan.groups:
            position = names.setdefault(group.owner, len(names))
            _reach(owner, since, group.tokens)
            owners = list(map(owner.__getitem__, group.tokens))
            kept = owners.count(position)
            changed: Sequence[int] = () if kept else group.tokens
            if 0 < kept < len(owners):
                changed = [token for token, had in zip(group.tokens, owners, strict=True) if had != position]
            for token in changed:
                owner[token] = position
                since[token] = revision.number
            by_version = {revision.number: changed} if not kept else _by_version(group.tokens, since)
            for version, tokens in by_version.items():
                layer.append(TokenGroup(tokens, group.owner, group.target, group.home, version))
        made = tuple(layer)
        written = sum(len(group.tokens) for group in made)
        layers = (*self.layers, made)
        whole = len(layers) > MOST_LAYERS or self.written + written > 2 * len(owner)
        if whole:
            made = merged(layers)
            layers, written = (made,), sum(len(group.tokens) for group in made)
        else:
            written += self.written
        pins = {id_: pin for id_, pin in self.pins.items() if id_ not in plan.unpinned}
        put = []
        for pin in plan.pins:
            before = pins.get(pin.id)
            version = before.version if before and before.owner == pin.owner else revision.number
            pins[pin.id] = attrs.evolve(pin, version=version)
            put.append(pins[pin.id])
        return Written(Table(revision, layers, written, names, owner, since, pins), made, whole, tuple(put))


def _reach(owner: array[int], since: array[int], tokens: Sequence[int]) -> None:
    """Make room for these tokens."""
    missing = (tokens[-1] + 1 if tokens else 0) - len(owner)
    if missing > 0:
        owner.extend(array('i', [ABSENT]) * missing)
        since.extend(array('q', [0]) * missing)


def _by_version(tokens: Sequence[int], since: array[int]) -> dict[int, Sequence[int]]:
    versions = set(map(since.__getitem__, tokens))
    if len(versions) == 1:  # the usual case, in a third of the time
        return {versions.pop(): tokens}
    found: dict[int, array[int]] = defaultdict(lambda: array('i'))
    for token in tokens:
        found[since[token]].append(token)
    return dict(found)
