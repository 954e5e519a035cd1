"""Write docs/guarantees.md: ``python -m tests.faults.page RESULTS``, a file of results of ``python -m tests.faults --results``.

Without a file of results only the list of defects is written anew, from defects.toml.
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
from tests.faults.places import PLACES

__all__ = ['DEFECTS', 'PAGE', 'Defect', 'defect_lines', 'defects']

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'guarantees.md'
DEFECTS = Path(__file__).with_name('defects.toml')
BEGIN, END = '<!-- figures -->', '<!-- end of figures -->'
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


def figure_lines(rows: Sequence[Row]) -> list[str]:
    """Return the lines of all tables of figures."""
    days = sorted({row['at'][:10] for row in rows})
    by_store = {store: found for store in PLACES if (found := [row for row in rows if row['store'] == store])}
    bounds = ((store, *(bound_cell(found, promise) for promise in PROMISES)) for store, found in by_store.items())
    return [
        f'Measured on {" to ".join(dict.fromkeys((days[0], days[-1])))}, on a machine that was busy with other work.',
        '',
        *table(FIGURES, (store_row(store, found) for store, found in by_store.items())),
        '',
        'The longest time in seconds that a token had no owner, for faults that happened alone, and how often that was',
        'longer than promised:',
        '',
        *table(('store', *(f'{promise}: {what}' for promise, what in PROMISES.items())), bounds),
        '',
        'How often each fault happened, alone or with others:',
        '',
        *table(('fault', *by_store), fault_rows(by_store)),
    ]


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


def main(arguments: Sequence[str]) -> None:
    """Write the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    figures, _, after = rest.partition(END)
    if arguments:
        rows = [json.loads(line) for path in arguments for line in Path(path).read_text().splitlines()]
        lines = figure_lines(rows)
        figures = '\n' + '\n'.join(lines) + '\n'
    head, _, _ = after.partition('<!-- defects -->')
    PAGE.write_text(f'{before}{BEGIN}{figures}{END}{head}<!-- defects -->\n' + '\n'.join(defect_lines()) + '\n')
    sys.stderr.write(f'{PAGE} written on {dt.datetime.now(dt.UTC).date()}\n')


if __name__ == '__main__':
    main(sys.argv[1:])
