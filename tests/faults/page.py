"""Write docs/guarantees.md: ``python -m tests.faults.page RESULTS``, a file of results of ``python -m tests.faults --results``.

Clusters of many nodes have a section of their own. A section of which there are no results stays as it is. The list of defects is
always written anew, from defects.toml.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from tests.faults.catalogue import FAULTS, MODULES
from tests.faults.large import LARGE
from tests.faults.large import SETTLE_SEC as LARGE_SETTLE_SEC
from tests.faults.places import PLACES

__all__ = ['DEFECTS', 'PAGE', 'Defect', 'defect_lines', 'defects', 'figure_lines', 'large_lines', 'written']

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'guarantees.md'
DEFECTS = Path(__file__).with_name('defects.toml')
BEGIN, END = '<!-- figures -->', '<!-- end of figures -->'
LARGE_BEGIN, LARGE_END = '<!-- many nodes -->', '<!-- end of many nodes -->'
PROMISES = {
    'P2': 'join or leave',
    'P3': 'death',
    'P4': 'outage',
    'R8': 'store goes back',
}

Row = Mapping[str, Any]


@attrs.frozen
class Defect:
    """One defect that was found and mended."""

    what: str
    promise: str
    mended: Sequence[str]
    """The commits."""
    shown: str = ''
    """The path of a test, or of a module, from the root; the name of the function after ``::``. Empty: no test of its own."""


def defects() -> list[Defect]:
    """Return every defect, in the order in which they were mended."""
    return [Defect(**fields) for fields in tomllib.loads(DEFECTS.read_text())['defect']]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f'| {" | ".join(heads)} |'
    yield '|' + '---|' * len(heads)
    for row in rows:
        yield f'| {" | ".join(map(str, row))} |'


def defect_lines() -> list[str]:
    """Return the lines of the list of defects."""
    rows = []
    for number, each in enumerate(defects(), 1):
        path, _, name = each.shown.partition('::')
        shown = f'`{name or Path(path).name}`' if path else 'no test of its own'
        rows.append((number, each.what, each.promise, shown, ', '.join(f'`{commit}`' for commit in each.mended)))
    return list(table(('', 'what', 'breaks', 'shown by', 'mended by'), rows))


# --- the figures of runs ------------------------------------------------------------------------------------------------------


FIGURES = (
    'store', 'minutes', 'faults', 'clusters', 'token-seconds owned twice', 'answered twice', 'tasks done twice at once', 'tasks',
    'missed', 'not whole again in 60 s', 'ended by themselves',
)  # fmt: skip
LARGE_FIGURES = tuple(head.replace('60 s', f'{LARGE_SETTLE_SEC:.0f} s') for head in FIGURES)


def figure_lines(rows: Sequence[Row]) -> list[str]:
    """Return the lines of all tables of figures."""
    by_store = stores_of(rows)
    return [
        *summary_lines(FIGURES, by_store),
        'How often each fault happened, alone or with others:',
        '',
        *table(('fault', *by_store), fault_rows(by_store)),
    ]


def large_lines(rows: Sequence[Row]) -> list[str]:
    """Return the lines of all tables of figures of clusters of many nodes."""
    by_store = stores_of(rows)
    return [
        *summary_lines(LARGE_FIGURES, by_store),
        'Each fault by itself: the longest time in seconds that a token had no owner, in brackets what the promise allows, and',
        'after how many seconds from the end of the fault the last token had found its owner:',
        '',
        *table(('fault', *by_store), large_fault_rows(by_store)),
    ]


def stores_of(rows: Sequence[Row]) -> Mapping[str, Sequence[Row]]:
    """Return the rows of each store."""
    return {store: found for store in PLACES if (found := [row for row in rows if row['store'] == store])}


def summary_lines(heads: Sequence[str], by_store: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Yield the lines on what was found on each store, and under each promise."""
    days = sorted({row['at'][:10] for rows in by_store.values() for row in rows})
    bounds = ((store, *(bound_cell(found, promise) for promise in PROMISES)) for store, found in by_store.items())
    yield f'Measured on {" to ".join(dict.fromkeys((days[0], days[-1])))}.'
    yield ''
    yield from table(heads, (store_row(store, found) for store, found in by_store.items()))
    yield ''
    yield 'The longest time in seconds that a token had no owner, for faults that happened alone, and how often that was'
    yield 'longer than promised:'
    yield ''
    yield from table(('store', *(f'{promise}: {what}' for promise, what in PROMISES.items())), bounds)
    yield ''


def store_row(store: str, rows: Sequence[Row]) -> Sequence[object]:
    """Return the row of a store."""
    parts = [part for row in rows for part in row['parts']]
    seconds, owned = sum(row['seconds'] for row in rows), sum(row['owned_twice'] for row in rows)
    counts = [sum(row[field] for row in rows) for field in ('answered_twice', 'worked_twice', 'tasks', 'missed')]
    deaths = sum(row.get('deaths', 0) for row in rows)
    faults, unsettled = sum(len(part['faults']) for part in parts), sum(not part['settled'] for part in parts)
    return (store, f'{seconds / 60:.0f}', faults, len(rows), f'{owned:g}', *counts, unsettled, deaths)


def bound_cell(rows: Sequence[Row], promise: str) -> str:
    """Return the longest gap under one promise, and how often it was longer than promised."""
    alone = [part for row in rows for part in row['parts'] if part['bound_sec'] is not None]
    mine = [part for part in alone if FAULTS[part['faults'][0]].promise == promise]
    if not mine:
        return ''
    late = sum(part['gap_sec'] > part['bound_sec'] for part in mine)
    return f'{max(part["gap_sec"] for part in mine):.1f} ({late} of {len(mine)})'


def fault_rows(by_store: Mapping[str, Sequence[Row]]) -> Iterator[Sequence[object]]:
    """Yield a row for each fault."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for store, rows in by_store.items():
        for name in (name for row in rows for part in row['parts'] for name in part['faults']):
            counts[name, store] += 1
    order = [module.__name__ for module in MODULES]
    for fault in sorted(FAULTS.values(), key=lambda each: order.index(each.run.__module__)):
        yield (fault.name, *(counts[fault.name, store] or ('0' if store in fault.stores else '') for store in by_store))


def large_fault_rows(by_store: Mapping[str, Sequence[Row]]) -> Iterator[Sequence[object]]:
    """Yield a row for each fault that has happened."""
    parts = {
        store: [part for row in rows for part in row['parts'] if len(part['faults']) == 1] for store, rows in by_store.items()
    }
    for name in FAULTS:
        mine = {store: [part for part in found if part['faults'] == [name]] for store, found in parts.items()}
        if any(mine.values()):
            yield (name, *('; '.join(map(part_cell, found)) for found in mine.values()))


def part_cell(part: Row) -> str:
    """Return how long a token had no owner, and when all had one."""
    bound = '' if part['bound_sec'] is None else f' ({part["bound_sec"]:.0f})'
    return f'{part["gap_sec"]:.1f}{bound}, {part["settle_sec"]:.1f}'


def written(text: str, begin: str, end: str, lines: Sequence[str]) -> str:
    """Return a page with other lines between two marks."""
    before, _, rest = text.partition(begin)
    return '\n'.join((before + begin, *lines, end + rest.partition(end)[2]))


def main(arguments: Sequence[str]) -> None:
    """Write the page."""
    text = PAGE.read_text()
    rows = [json.loads(line) for path in arguments for line in Path(path).read_text().splitlines()]
    if few := [row for row in rows if row['stage']['workers'] < LARGE]:
        text = written(text, BEGIN, END, figure_lines(few))
    if many := [row for row in rows if row['stage']['workers'] >= LARGE]:
        text = written(text, LARGE_BEGIN, LARGE_END, large_lines(many))
    head, _, _ = text.partition('<!-- defects -->')
    PAGE.write_text(f'{head}<!-- defects -->\n' + '\n'.join(defect_lines()) + '\n')
    sys.stderr.write(f'{PAGE} written on {dt.datetime.now(dt.UTC).date()}\n')


if __name__ == '__main__':
    main(sys.argv[1:])
