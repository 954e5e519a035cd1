"""The version of a distribution, and what to say where jobsync's own metadata is missing."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ['NO_METADATA', 'UNKNOWN', 'version_of', 'why_incomplete']

NO_METADATA = 'the folder jobsync-….dist-info is not beside the package'
"""Why jobsync's own entry points and version are not found: only the package was copied, or packed into a program."""

UNKNOWN = '?'
"""The name of a distribution whose metadata cannot be read."""


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution; None if there is no metadata of it."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and seldom needed

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def why_incomplete(distributions: Collection[str]) -> str | None:
    """Return why jobsync's own backends are missing, if no distribution in which backends were found is jobsync's."""
    if not {'jobsync', UNKNOWN}.isdisjoint(distributions):
        return None
    return (
        f"jobsync's own backends are not found, since {NO_METADATA}: install it with pip, or copy that folder too "
        '(PyInstaller: --copy-metadata jobsync --collect-all jobsync)'
    )
