"""Everything that one run has measured, and its form in a file."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from jobsync.errors import JobsyncError
from jobsync_bench.figures import Series, Side
from jobsync_bench.machine import Machine, versions

__all__ = ['FORMAT', 'Part', 'Results']

FORMAT = 1
"""Of the file; raised when an older program could misread a newer file."""


@attrs.frozen
class Part:
    """What became of one scenario on one store."""

    scenario: str
    store: str
    took_sec: float
    fault: str = ''
    """Why it could not be played to its end; empty if it was."""


@attrs.define
class Results:
    """One run."""

    quick: bool
    machine: Machine = attrs.field(factory=Machine.here)
    started: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC).replace(microsecond=0))
    took_sec: float = 0.0
    stopped_by: str = ''
    """The signal that ended it early."""
    versions: dict[str, str] = attrs.field(factory=versions)
    """Of libraries and of stores."""
    notes: list[str] = attrs.field(factory=list)
    """What a reader must know: who could not be measured, and why."""
    parts: list[Part] = attrs.field(factory=list)
    series: list[Series] = attrs.field(factory=list)

    def of(self, scenario: str) -> Iterator[Series]:
        """What one scenario has measured, on all stores."""
        return (series for series in self.series if series.scenario == scenario)

    def write(self, path: Path) -> None:
        """Into a file, whole or not at all."""
        draft = path.with_name(path.name + '.part')
        draft.write_text(json.dumps({'format': FORMAT, **attrs.asdict(self, value_serializer=_plain)}, indent=1) + '\n')
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> Results:
        """From a file. Raises ``JobsyncError`` for one that ``write`` has not written."""
        try:
            told: dict[str, Any] = json.loads(path.read_text())
            if told['format'] != FORMAT:
                raise JobsyncError(f'{path} is of format {told["format"]}, and this jobsync reads format {FORMAT}')
            del told['format']
            return cls(**{name: _PARSERS.get(name, _as_it_is)(value) for name, value in told.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise JobsyncError(f'{path} holds no results of a benchmark: {type(error).__name__}: {error}') from error


def _plain(_instance: object, _field: object, value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, Side):
        return value.value
    return value.isoformat() if isinstance(value, dt.datetime) else value


def _as_it_is(value: Any) -> Any:
    return value


def _series(told: Mapping[str, Any]) -> Series:
    return Series(**{**told, 'side': Side(told['side'])})


_PARSERS: dict[str, Callable[[Any], Any]] = {
    'machine': lambda told: Machine(**told),
    'started': dt.datetime.fromisoformat,
    'parts': lambda told: [Part(**part) for part in told],
    'series': lambda told: [_series(series) for series in told],
}
