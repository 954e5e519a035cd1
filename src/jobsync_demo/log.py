"""A worker's log: how it is written, and what is read out of it.

One JSON object a line, ``what`` being one of

- ``start``: node, pid, t;
- ``entered``: t. The ``with Job`` block was entered;
- ``tokens``: set, gained, lost. ``my_tokens`` became another object, which is called number ``set`` from here on;
- ``seen``: set, before, after. A reading between these two times found that object;
- ``begin``: file, t. ``can_claim_task`` and ``add_task`` have answered True, the file is not open yet;
- ``end``: file, t, and its digest;
- ``complete``: t. This worker saw that every file is audited;
- ``left``: t. The block was left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from jobsync_demo.files import Digest

__all__ = ['Event', 'LogTail', 'LogWriter', 'Sighting', 'Work', 'WorkerLog', 'read_log', 'summarise']

Event = Mapping[str, Any]


class LogWriter:
    """Appends lines, each with one ``write`` to the kernel: nothing that was logged is lost with the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, **fields: object) -> None:
        """Append one event; may be called from any thread."""
        os.write(self._fd, json.dumps({'what': what, **fields}).encode() + b'\n')


class LogTail:
    """Follows a log that is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Event]:
        """The events of whole lines that were appended since the last call; a torn last line waits."""
        try:
            with self._path.open('rb') as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b'\n') + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


@attrs.frozen
class Work:
    """One process had one file from ``begin`` to ``end``."""

    node: str
    file: str
    begin: float
    end: float | None = None
    """None if the log stops before the end."""
    result: Digest | None = None


@attrs.frozen
class Sighting:
    """Successive readings that found one and the same set of tokens.

    The tokens were certainly this node's from ``first`` to ``last``. Of a single reading ``first`` is later than ``last``: it
    happened at some time between the two.
    """

    node: str
    tokens: frozenset[int]
    first: float
    """When the first reading was over."""
    last: float
    """When the last reading began."""
    widest: float = 0.0
    """The longest time between two readings that follow each other."""


@attrs.frozen
class WorkerLog:
    """What one worker's log says."""

    node: str
    pid: int = 0
    works: tuple[Work, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    complete_at: float | None = None
    left_at: float | None = None


def read_log(path: Path) -> WorkerLog:
    """A whole log."""
    return summarise(path.stem, LogTail(path).read())


def summarise(node: str, events: Iterable[Event]) -> WorkerLog:
    """Put the events of one log in order of what they belong to."""
    log = WorkerLog(node)
    works: list[Work] = []
    sightings: list[Sighting] = []
    tokens: frozenset[int] = frozenset()
    open_set: int | None = None
    for event in events:
        match event['what']:
            case 'start':
                log = attrs.evolve(log, pid=event['pid'])
            case 'tokens':
                tokens = (tokens - frozenset(event['lost'])) | frozenset(event['gained'])
            case 'seen':
                before, after = event['before'], event['after']
                if event['set'] == open_set:
                    previous = sightings[-1]
                    widest = max(previous.widest, after - previous.last)
                    sightings[-1] = attrs.evolve(previous, last=before, widest=widest)
                else:
                    open_set = event['set']
                    sightings.append(Sighting(node, tokens, first=after, last=before))
            case 'begin':
                works.append(Work(node, event['file'], begin=event['t']))
            case 'end':
                result = Digest(event['lines'], event['words'], event['sha256'], event['error'])
                works[-1] = attrs.evolve(works[-1], end=event['t'], result=result)
            case 'complete':
                log = attrs.evolve(log, complete_at=event['t'])
            case 'left':
                log = attrs.evolve(log, left_at=event['t'])
            case _:
                pass
    return attrs.evolve(log, works=tuple(works), sightings=tuple(sightings))
