"""The history: what nodes began and completed, and what the leader moved."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping

import attrs

__all__ = ['Audit', 'Claim', 'HistoryKind', 'Purged', 'Rebalance', 'Unclaimed']


class HistoryKind(enum.Enum):
    """The three kinds of history that a backend keeps."""

    CLAIM = 'claim'
    AUDIT = 'audit'
    REBALANCE = 'rebalance'


@attrs.frozen
class Claim:
    """A node began a task. One record for each item, date and node; beginning again renews ``created_on``."""

    item: str
    node: str
    date: dt.date
    created_on: dt.datetime


@attrs.frozen
class Unclaimed:
    """The items of a claim that were not recorded, and why."""

    completed: frozenset[str] = frozenset()
    """The items that any node had completed already."""
    lost_attempts: Mapping[str, int] = attrs.field(factory=dict)
    """The items with more lost attempts than are tolerated, each with their number."""


@attrs.frozen
class Audit:
    """A node completed a task. One record for each item, date and node."""

    item: str
    node: str
    date: dt.date
    created_on: dt.datetime


@attrs.frozen
class Rebalance:
    """A commit that changed owners, or by which a node went."""

    triggered_at: dt.datetime
    trigger_reason: str
    leader_node: str
    nodes_before: int
    nodes_after: int
    tokens_moved: int
    """Tokens and pins that passed to a new owner in this commit."""
    duration_ms: int
    version: int = 0
    """The plan's number, which is the version of the tokens and pins that passed; 0 in a record of an older schema."""


@attrs.frozen
class Purged:
    """What one portion of a purge did."""

    deleted: int
    """How many records it deleted."""
    resume: str = ''
    """Where the next portion goes on, in the store's own terms; empty once every record has been read."""
