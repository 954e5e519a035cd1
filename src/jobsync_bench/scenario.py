"""What a scenario says of itself. The report, the pages of the documentation and the listing are made from this alone."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from jobsync.errors import ConfigError
from jobsync_bench.figures import Figure
from jobsync_bench.targets import Target

if TYPE_CHECKING:
    from jobsync_bench.bench import Bench

__all__ = ['Needs', 'Scenario', 'chosen']


def _flowing(text: str) -> str:
    """A text without the line breaks of its source."""
    return ' '.join(text.split())


class Needs(enum.Enum):
    """What a scenario takes place on."""

    NOTHING = 'no store'
    STORE = 'any store'
    PROCESSES = 'a store that several processes reach'
    NETWORK = 'a store that several hosts reach'


@attrs.frozen
class Scenario:
    """One thing that is measured."""

    name: str
    """As it is chosen by: one word."""
    title: str
    means: str = attrs.field(converter=_flowing)
    """What it means to who uses jobsync."""
    bounds: str = attrs.field(converter=_flowing)
    """What bounds it: why it cannot be better, or what it would take."""
    figures: tuple[Figure, ...]
    play: Callable[[Bench], None]
    needs: Needs = Needs.STORE
    targets: tuple[Target, ...] = ()
    by_default: bool = True
    """Whether it is played when no scenario is named; what takes long is not."""
    at_once: int = 1
    """On how many stores it is played at the same time: more than one if its processes do little but wait."""

    def figure(self, name: str) -> Figure:
        """The figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)


def chosen(names: Iterable[str], among: Sequence[Scenario]) -> tuple[Scenario, ...]:
    """The scenarios of these names in their usual order; those played by default if none is given. Raises ``ConfigError``."""
    known: Mapping[str, Scenario] = {scenario.name: scenario for scenario in among}
    wanted = set(names)
    if unknown := sorted(wanted - known.keys()):
        raise ConfigError(f'there is no scenario {", ".join(map(repr, unknown))}; there are {", ".join(known)}')
    return tuple(scenario for scenario in among if scenario.name in wanted or (not wanted and scenario.by_default))
