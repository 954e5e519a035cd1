"""The namespace as a whole: its revision, its timeline (rule R8) and its settings."""

from __future__ import annotations

import attrs

__all__ = ['INITIAL', 'Opened', 'Revision', 'Settings', 'Timeline', 'Unreadable']


@attrs.frozen(order=False)
class Revision:
    """The number of a structural change and the random stamp drawn with it.

    The number alone does not distinguish two histories of one store (rule R8): two revisions are equal only if both parts are.
    """

    number: int
    stamp: int


INITIAL = Revision(0, 0)
"""The revision of a namespace in which nothing has happened, and the version of its empty assignment."""


@attrs.frozen
class Timeline:
    """An unbroken history of the store (rule R8)."""

    generation: int
    """0 is the namespace's first; each renewal adds one."""
    id: str
    """Random: two renewals never share it."""
    store: str
    """The store's own identity when the timeline was made; another one now means another store answers."""


@attrs.frozen
class Settings:
    """The settings that every node of a cluster must agree on."""

    total_tokens: int
    hash_function: str
    format: int = 1


@attrs.frozen
class Opened:
    """What ``Backend.open`` found: the settings in force and the timeline."""

    settings: Settings
    timeline: Timeline


@attrs.frozen
class Unreadable:
    """A record that cannot be read in full, for people (rule R9)."""

    kind: str
    """``'node'``, ``'lock'`` or ``'item'``."""
    key: str
    """The node's name or the lock's task id, as far as they can be read."""
    problem: str
    """The field, the value found and what is done about it."""
