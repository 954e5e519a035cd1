"""Entry points, also where a file of another distribution that names its own is damaged."""

from __future__ import annotations

import re
from importlib import metadata
from importlib.metadata import Distribution, EntryPoint

__all__ = ['read_entry_points']


def read_entry_points(group: str) -> tuple[list[EntryPoint], dict[str, str]]:
    """Return the entry points of a group; and for each distribution whose own cannot be read its name, with the reason."""
    try:
        return list(metadata.entry_points(group=group)), {}
    except Exception:  # noqa: BLE001, S110 - a line without "=" is a TypeError, and Python does not say in which file it is
        pass
    by_name: dict[str, Distribution] = {}
    for distribution in metadata.distributions():
        by_name.setdefault(_name_of(distribution), distribution)  # the first of a name counts, as it does above
    found, damaged = list[EntryPoint](), dict[str, str]()
    for name, distribution in by_name.items():
        try:
            found += distribution.entry_points.select(group=group)
        except Exception as error:  # noqa: BLE001 - as above
            damaged[name] = f'the entry_points.txt of {name} cannot be read: {type(error).__name__}: {error}'
    return found, damaged


def _name_of(distribution: Distribution) -> str:
    """Return the name of a distribution as installers compare it; where its metadata is damaged too, one that no other has."""
    try:
        return re.sub('[-_.]+', '-', distribution.metadata['Name']).lower()
    except Exception:  # noqa: BLE001 - damaged metadata may raise anything
        return str(getattr(distribution, '_path', distribution))
