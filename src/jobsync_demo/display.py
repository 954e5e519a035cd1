"""Displays of a demo: a table that renews itself on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobsync_demo.scene import Scene, WorkerRow

__all__ = ['Display', 'LiveDisplay', 'PlainDisplay', 'display_for']

_PLAIN_EVERY_SEC = 1.0
_PLAIN_ROWS = 10


class Display(Protocol):
    """An output of the demo. A context manager, because a terminal must be restored at the end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, scene: Scene) -> None:
        """Show the latest scene."""

    def say(self, elapsed_sec: float, text: str) -> None:
        """Show an event and when it happened."""


def display_for(console: Console) -> Display:
    """Return the display that suits the output."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(lambda line: console.print(line, soft_wrap=True))


class PlainDisplay:
    """Writes a line a second, and one for each event."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown_at = -_PLAIN_EVERY_SEC

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        pass

    def show(self, scene: Scene) -> None:
        """Write the scene as one line, unless the last one is less than a second old."""
        if scene.elapsed_sec - self._shown_at < _PLAIN_EVERY_SEC:
            return
        self._shown_at = scene.elapsed_sec
        workers = ', '.join(map(_in_words, scene.rows)) if len(scene.rows) <= _PLAIN_ROWS else _in_short(scene.rows)
        self._write(f'{scene.elapsed_sec:5.1f} s  {scene.done}/{scene.files} files; tokens: {workers}')

    def say(self, elapsed_sec: float, text: str) -> None:
        """Write the event as one line."""
        self._write(f'{elapsed_sec:5.1f} s  {text}')


def _in_words(row: WorkerRow) -> str:
    state = '' if row.state == 'working' else f' ({row.state})'
    return f'{row.node} {row.tokens}{state}'


def _in_short(rows: Sequence[WorkerRow]) -> str:
    tokens: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        tokens[row.state].append(row.tokens)
    return ', '.join(f'{min(owned)} to {max(owned)} for each of {len(owned)} {state}' for state, owned in tokens.items())


class LiveDisplay:
    """Draws one table again and again, with the events below it."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._scene: Scene | None = None
        self._events: list[Text] = []

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._live.stop()

    def show(self, scene: Scene) -> None:
        """Draw the scene."""
        self._scene = scene
        self._draw()

    def say(self, elapsed_sec: float, text: str) -> None:
        """Add the event to those below the table."""
        self._events.append(Text(f'{elapsed_sec:5.1f} s  {text}'))
        self._draw()

    def _draw(self) -> None:
        shown = [] if self._scene is None else [_headline(self._scene), _workers(self._scene)]
        self._live.update(Group(*shown, *self._events), refresh=True)


def _headline(scene: Scene) -> Table:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column()
    line.add_column(ratio=1)
    text = f'{scene.elapsed_sec:5.1f} s  {scene.done} of {scene.files} files done'
    line.add_row(Text(text), ProgressBar(total=scene.files, completed=scene.done))
    return line


def _workers(scene: Scene) -> Table:
    table = Table(expand=True)
    table.add_column('worker')
    table.add_column('pid', justify='right')
    table.add_column('state')
    table.add_column('tokens', justify='right')
    table.add_column('', ratio=1)
    table.add_column('files', justify='right')
    table.add_column('doing', ratio=2, no_wrap=True)
    for row in scene.rows:
        table.add_row(
            Text(row.node + (' (leader)' if row.leads else '')),
            str(row.pid),
            row.state,
            f'{row.tokens}' + (f' (-{row.handing_over})' if row.handing_over else ''),
            ProgressBar(total=scene.total_tokens, completed=row.tokens),
            str(row.files),
            Text(row.doing, overflow='ellipsis'),
            style='red' if row.state.startswith(('killed', 'died')) else '',
        )
    return table
