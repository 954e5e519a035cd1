"""How the commands print what they have read: as tables for people, or as JSON for programs."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import click
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ['age', 'console', 'plain', 'print_done', 'print_json', 'print_rows', 'print_table', 'table_of']

_SHORT = 12
"""Characters of a word that a table does not fold."""
_MANY = 1000
"""From so many rows on, laying a table out for a terminal takes seconds."""
_WIDE = 1_000_000
"""The width of the output, in characters, where it is not a terminal: nothing is cut off that a program may search for."""


def console() -> Console:
    """Return the console on standard output; one that prints nowhere if the process has none."""
    if sys.stdout is None:
        return Console(file=io.StringIO())
    width = None if sys.stdout.isatty() else _WIDE
    if width is None and os.environ.get('COLUMNS') == '0':  # unknown, as of some terminals
        width = shutil.get_terminal_size().columns
    return Console(width=width, highlight=False)


def plain(text: str) -> str:
    """Return a text from the store in which what a terminal would act on, or not show, is a code: escapes, ends of lines."""
    return ''.join(sign if sign.isprintable() else sign.encode('unicode_escape').decode() for sign in text)


def print_json(value: object) -> None:
    """Print a value as JSON, times in ISO 8601; with escapes for what ``plain`` codes, and what the output's encoding lacks."""
    lines = json.dumps(value, default=_plain, indent=2, ensure_ascii=False).split('\n')
    text = '\n'.join(line if line.isprintable() else _escaped(line) for line in lines)
    try:
        text.encode(getattr(sys.stdout, 'encoding', None) or 'utf-8')
    except UnicodeEncodeError:
        text = json.dumps(value, default=_plain, indent=2)
    click.echo(text)


def _escaped(line: str) -> str:
    """Return a line of JSON with escapes for what is not printable. It has such only in its texts."""
    return ''.join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in line)


def print_rows(rows: Sequence[Mapping[str, object]], columns: Iterable[str], *, as_json: bool, nothing: str) -> None:
    """Print rows: whole as JSON, or some of their columns as a table; ``nothing`` in place of an empty table."""
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(columns), ([row[column] for column in columns] for row in rows))
    else:
        click.echo(nothing)


def print_done(words: str, *, as_json: bool, **done: object) -> None:
    """Print what a command has done: in words, or as a JSON object. On a full disk the words go to standard error: it is done."""
    try:
        if as_json:
            print_json(done)
        else:
            click.echo(words)
    except OSError:
        click.echo(words, err=True)
        raise


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], usual: Mapping[str, object] = MappingProxyType({})
) -> None:
    """Print a table with these columns (see ``table_of``); one of very many rows without regard to the width of the terminal."""
    place, body = console(), list(rows)
    if len(body) > _MANY:
        click.echo('\n'.join(_lines(columns, body)))
    else:
        place.print(table_of(columns, body, place.width, usual))


def _lines(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    cells = [[column.replace('_', ' ') for column in columns], *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield '  '.join(cell + ' ' * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()


def table_of(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    width: int,
    usual: Mapping[str, object] = MappingProxyType({}),
) -> RenderableType:
    """Return a table with these columns, numbers to the right; or rows one below the other, where the table is too wide.

    A line has ``width`` characters. Where the table is too wide, a column that has nothing but its ``usual`` value is left out.
    """
    body = list(rows)
    for column, value in usual.items():
        if _least_width(columns, body) > width and all(row[columns.index(column)] == value for row in body):
            at = columns.index(column)
            columns, body = [*columns[:at], *columns[at + 1 :]], [[*row[:at], *row[at + 1 :]] for row in body]
    if _least_width(columns, body) > width:
        return Group(*(_below_each_other(columns, row) for row in body))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style='bold')
    for number, column in enumerate(columns):
        is_number = bool(body) and all(isinstance(row[number], int | float) for row in body)
        table.add_column(column.replace('_', ' '), justify='right' if is_number else 'left', overflow='fold')
    for row in body:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _least_width(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
    """Return how many characters a table takes in which no short word is cut."""
    widths = (max(len(column), *(len(_cell(row[at])) for row in rows), 0) for at, column in enumerate(columns))
    return sum(2 + min(width, _SHORT) for width in widths) - 2


def _below_each_other(columns: Sequence[str], row: Sequence[object]) -> Text:
    widest = max(map(len, columns))
    lines = [(f'{column.replace("_", " "):{widest}}  ', f'{_cell(value)}\n') for column, value in zip(columns, row, strict=True)]
    return Text.assemble(*((part, style) for line in lines for part, style in zip(line, ('bold', ''), strict=True)))


def age(seconds: float | None) -> str:
    """Return a number of seconds as people say it."""
    if seconds is None:
        return '-'
    if seconds < 120:
        return f'{seconds:.1f} s'
    return f'{seconds / 60:.0f} min' if seconds < 7200 else f'{seconds / 3600:.0f} h'


def _cell(value: object) -> str:
    if value is None or value == []:
        return '-'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, dt.datetime):
        return f'{value.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}'
    if isinstance(value, float):
        return f'{value:g}'
    return plain(', '.join(map(str, value)) if isinstance(value, list) else str(value))


def _plain(value: object) -> object:
    if isinstance(value, dt.date):  # or a datetime, which is one
        return value.isoformat()
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f'{value!r} has no form in JSON')
