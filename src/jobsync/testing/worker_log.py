"""Logs that worker processes write for a judgement afterwards: see ``jobsync.testing.verdict``.

Each worker process appends to a log of its own, one ``write`` to the kernel per line, so the log survives ``SIGKILL`` up to its
last line. All times are ``now()``: one clock for all processes of a host, so logs of several hosts cannot be compared.

A line is one JSON object with the time ``t`` and further fields. ``what`` is one of

- ``start``: node, pid;
- ``tokens``: set, gained, lost. The worker's tokens became another set, which has the number ``set`` from here on;
- ``seen``: set, before, after. A reading that began at ``before`` and was over at ``after`` found that set;
- ``begin``: task. The worker has claimed the task, and has not begun its work;
- ``end``: task. The work is over. All other fields are the result;
- any other word, such as ``entered`` or ``left``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from jobsync import Job

__all__ = ['LogTail', 'LogWriter', 'LoggedEvent', 'Sighting', 'Work', 'WorkerLog', 'log_tokens', 'now', 'read_log', 'summarise']

LoggedEvent = Mapping[str, Any]
"""One line of a log."""


def now() -> float:
    """Return the seconds of the clock that all processes of this host share (``CLOCK_MONOTONIC``)."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class LogWriter:
    """Appends lines to a log. Nothing that was written is lost with the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, **fields: object) -> None:
        """Append one event, with the present time as ``t`` unless ``fields`` has one. Any thread may call this."""
        os.write(self._fd, json.dumps({'what': what, 't': now(), **fields}).encode() + b'\n')


def log_tokens(job: Job, log: LogWriter, every_sec: float, until: threading.Event) -> None:
    """Read ``job.my_tokens`` every ``every_sec`` seconds and log each reading, until ``until`` is set.

    Run this on a thread of its own.
    """
    known: frozenset[int] | None = None
    number = 0
    while not until.is_set():
        before = now()
        tokens = job.my_tokens
        after = now()
        if tokens is not known:
            old = known or frozenset()
            number += 1
            log.write('tokens', set=number, gained=sorted(tokens - old), lost=sorted(old - tokens))
            known = tokens
        log.write('seen', set=number, before=before, after=after)
        until.wait(every_sec)


class LogTail:
    """Follows a log that is still being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[LoggedEvent]:
        """Return the events of whole lines that were appended since the last call. A torn last line waits."""
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
    """One process had one task from ``begin`` to ``end``."""

    node: str
    task: str
    begin: float
    end: float | None = None
    """None if the log stops before the end of the work."""
    result: Mapping[str, Any] = attrs.field(factory=dict)
    """The fields that the worker added to the event ``end``."""


@attrs.frozen
class Sighting:
    """Successive readings that found one set of tokens.

    The tokens were certainly this node's from ``first`` to ``last``. After a single reading, ``first`` is later than ``last``:
    the tokens were this node's at some instant between the two.
    """

    node: str
    tokens: frozenset[int]
    first: float
    """When the first reading was over."""
    last: float
    """When the last reading began."""
    widest: float = 0.0
    """The longest time between two successive readings, in seconds."""


@attrs.frozen
class WorkerLog:
    """The content of one worker's log."""

    node: str
    pid: int = 0
    works: tuple[Work, ...] = ()
    sightings: tuple[Sighting, ...] = ()


def read_log(path: Path) -> WorkerLog:
    """Read a whole log. The node gets the file's name without its suffix."""
    return summarise(path.stem, LogTail(path).read())


def summarise(node: str, events: Iterable[LoggedEvent]) -> WorkerLog:
    """Collect the events of one log into spans of work and sightings of tokens."""
    pid = 0
    works: list[Work] = []
    begun: dict[str, int] = {}
    """For each task the position in ``works`` of its last begin: the threads of a worker have several tasks at once."""
    sightings: list[Sighting] = []
    tokens: frozenset[int] = frozenset()
    open_set: int | None = None
    for event in events:
        match event:
            case {'what': 'start'}:
                pid = event['pid']
            case {'what': 'tokens', 'set': number}:
                # t=0  a worker that owns token 3 is killed, and started again under its name, so it appends to the same log
                # t=1  another worker owns token 3; the log has its first set of tokens anew, with the number 1 again
                # Added to what the process before had, and taken for its set 1, that would prove two owners of token 3.
                before = frozenset[int]() if number == 1 else tokens
                tokens = (before - frozenset(event['lost'])) | frozenset(event['gained'])
                open_set = None
            case {'what': 'seen', 'set': number, 'before': before, 'after': after} if number == open_set:
                previous = sightings[-1]
                sightings[-1] = attrs.evolve(previous, last=before, widest=max(previous.widest, after - previous.last))
            case {'what': 'seen', 'set': number, 'before': before, 'after': after}:
                open_set = number
                sightings.append(Sighting(node, tokens, first=after, last=before))
            case {'what': 'begin'}:
                begun[event['task']] = len(works)
                works.append(Work(node, event['task'], begin=event['t']))
            case {'what': 'end', 'task': task, 't': t, **result}:
                works[begun[task]] = attrs.evolve(works[begun[task]], end=t, result=result)
            case _:
                pass
    return WorkerLog(node, pid, tuple(works), tuple(sightings))
