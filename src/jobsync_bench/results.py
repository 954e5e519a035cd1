"""The results of one run, and their form in a file."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from jobsync.errors import JobsyncError
from jobsync_bench.figures import Series, Side
from jobsync_bench.machine import Machine, versions

__all__ = ['FORMAT', 'Part', 'Results']

FORMAT = 1
"""The file's format. Raised when an older program could misread a newer file."""


@attrs.frozen
class Part:
    """The outcome of one scenario on one store."""

    scenario: str
    store: str
    took_sec: float
    fault: str = ''
    """Why the scenario was not played to its end; empty if it was."""
    began_sec: float | None = None
    """When it began, from the begin of the run; None in files of earlier versions. Several stores are played at once."""


@attrs.define
class Results:
    """The results of one run."""

    quick: bool
    machine: Machine = attrs.field(factory=Machine.here)
    started: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC).replace(microsecond=0))
    took_sec: float = 0.0
    stopped_by: str = ''
    """The signal that ended the run early; empty without one."""
    versions: dict[str, str] = attrs.field(factory=versions)
    """Versions of libraries and of stores."""
    notes: list[str] = attrs.field(factory=list)
    """Notes for the reader, such as parties that could not be measured, and why."""
    parts: list[Part] = attrs.field(factory=list)
    series: list[Series] = attrs.field(factory=list)

    def of(self, scenario: str) -> Iterator[Series]:
        """Return the series of one scenario, on all stores."""
        return (series for series in self.series if series.scenario == scenario)

    def times(self) -> dict[str, float]:
        """Return the seconds that each scenario took on all its stores, in the order of the run. Stores at once share them."""
        spans: dict[str, list[tuple[float, float]]] = {}
        for part in self.parts:
            if part.began_sec is not None:
                spans.setdefault(part.scenario, []).append((part.began_sec, part.began_sec + part.took_sec))
        return {name: _covered(each) for name, each in spans.items()}

    def write(self, path: Path) -> None:
        """Write the results to a file, atomically."""
        draft = path.with_name(path.name + '.part')
        draft.write_text(f'{self.text()}\n')
        draft.replace(path)

    def text(self) -> str:
        """Return the results as JSON, as they are in a file."""
        return json.dumps({'format': FORMAT, **attrs.asdict(self, value_serializer=_plain)}, indent=1)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read results from a file. Raises ``JobsyncError`` for a file that ``write`` has not written."""
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            if content['format'] != FORMAT:
                raise JobsyncError(f'{path} is of format {content["format"]}, and this jobsync reads format {FORMAT}')
            del content['format']
            return cls(**{name: _PARSERS.get(name, _as_it_is)(value) for name, value in content.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise JobsyncError(f'{path} holds no results of a benchmark: {type(error).__name__}: {error}') from error


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return how much time some spans cover together."""
    covered, until = 0.0, 0.0
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def _plain(_instance: object, _field: object, value: Any) -> Any:
    """Convert values that JSON has no form for."""
    if isinstance(value, Side):
        return value.value
    return value.isoformat() if isinstance(value, dt.datetime) else value


def _as_it_is(value: Any) -> Any:
    return value


def _series(content: Mapping[str, Any]) -> Series:
    return Series(**{**content, 'side': Side(content['side'])})


_PARSERS: dict[str, Callable[[Any], Any]] = {
    'machine': lambda content: Machine(**content),
    'started': dt.datetime.fromisoformat,
    'parts': lambda content: [Part(**part) for part in content],
    'series': lambda content: [_series(series) for series in content],
}
