"""Scenarios and their descriptions. The report, the documentation's pages and the listing use these descriptions alone."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from jobsync.errors import ConfigError
from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure
from jobsync_bench.targets import Target

__all__ = ['Needs', 'Scenario', 'chosen']


def _flowing(text: str) -> str:
    """Return a text without the line breaks of its source."""
    return ' '.join(text.split())


class Needs(enum.Enum):
    """The kind of store that a scenario needs."""

    NOTHING = 'no store'
    STORE = 'any store'
    PROCESSES = 'a store that several processes reach'
    NETWORK = 'a store that several hosts reach'


@attrs.frozen
class Scenario:
    """One subject of measurement."""

    name: str
    """The word that selects the scenario."""
    title: str
    means: str = attrs.field(converter=_flowing)
    """The meaning to a user of jobsync."""
    bounds: str = attrs.field(converter=_flowing)
    """The bound: why the numbers cannot be better, or what that would take."""
    figures: tuple[Figure, ...]
    play: Callable[[Bench], None]
    needs: Needs = Needs.STORE
    targets: tuple[Target, ...] = ()
    by_default: bool = True
    """Whether the scenario is played when none is named. False for scenarios that take long."""
    at_once: int = 1
    """The number of stores that the scenario is played on at the same time: more than 1 if its processes mostly wait."""

    def figure(self, name: str) -> Figure:
        """Return the figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)


def chosen(names: Iterable[str], among: Sequence[Scenario]) -> tuple[Scenario, ...]:
    """Return the scenarios of these names in their usual order, or those played by default if no name is given.

    Raises ``ConfigError`` for an unknown name.
    """
    known: Mapping[str, Scenario] = {scenario.name: scenario for scenario in among}
    wanted = set(names)
    if unknown := sorted(wanted - known.keys()):
        raise ConfigError(f'there is no scenario {", ".join(map(repr, unknown))}; there are {", ".join(known)}')
    return tuple(scenario for scenario in among if scenario.name in wanted or (not wanted and scenario.by_default))
