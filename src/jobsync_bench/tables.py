"""The series of one figure as a table: quotients first, then measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from jobsync_bench.figures import Figure, Series, Side, ratio
from jobsync_bench.formatting import quantity, spread, table, times

__all__ = ['CaseRow', 'figure_table', 'rows_of']

_OURS = 'ours'


@attrs.frozen
class CaseRow:
    """One series of jobsync in one case, with the series of the other parties."""

    store: str
    case: str
    ours: Series | None
    others: Mapping[str, Series]
    """Rivals and floors by name."""

    @property
    def label(self) -> str:
        """The case, and the variant of jobsync if it is not the usual one."""
        if self.ours is None or self.ours.who == _OURS:
            return self.case
        return f'{self.case} ({self.ours.who.removeprefix(_OURS).lstrip(", ")})'


def rows_of(series: Iterable[Series]) -> list[CaseRow]:
    """Return the rows of one figure, grouped by store, in the order of measurement."""
    cases: dict[tuple[str, str], list[Series]] = {}
    series = list(series)
    stores = list(dict.fromkeys(each.store for each in series))
    for each in sorted(series, key=lambda each: stores.index(each.store)):
        cases.setdefault((each.store, each.case), []).append(each)
    rows = []
    for (store, case), here in cases.items():
        others = {each.who: each for each in here if each.side is not Side.OURS}
        ours: list[Series | None] = [each for each in here if each.side is Side.OURS]
        rows += [CaseRow(store, case, each, others) for each in ours or [None]]
    return rows


def figure_table(figure: Figure, series: Iterable[Series]) -> str:
    """Return the table of one figure."""
    rows = rows_of(series)
    others = {who: each.side for row in rows for who, each in row.others.items()}
    rivals = [who for who, side in others.items() if side is Side.RIVAL]
    floors = [who for who, side in others.items() if side is Side.FLOOR]
    more = figure.unit.more_is_better
    columns = ['case', 'store']
    columns += [f'ours / {who}' if more else f'{who} / ours' for who in rivals]
    columns += [f'{who} / ours' if more else f'ours / {who}' for who in floors]
    columns += ['ours', 'the middle half', *(['p99'] if figure.tail else []), *rivals, *floors, 'times measured']
    return table(columns, [_cells(row, figure, rivals, floors) for row in rows])


def _cells(row: CaseRow, figure: Figure, rivals: list[str], floors: list[str]) -> list[str]:
    ours = None if row.ours is None else row.ours.summary

    def shown(value: float) -> str:
        return quantity(value, figure.unit)

    def quotient(who: str, upside_down: bool) -> str:
        if ours is None or who not in row.others:
            return ''
        theirs = row.others[who].summary.median
        return times(ratio(ours.median, theirs) if upside_down else ratio(theirs, ours.median))

    more = figure.unit.more_is_better
    cells = [row.label, row.store]
    cells += [quotient(who, more) for who in rivals] + [quotient(who, not more) for who in floors]
    if ours is None:
        cells += ['', '', *([''] if figure.tail else [])]
    else:
        middle = spread(ours.lower, ours.upper, figure.unit) if ours.count > 1 else ''
        cells += [shown(ours.median), middle, *([shown(ours.p99)] if figure.tail else [])]
    cells += [shown(row.others[who].summary.median) if who in row.others else '' for who in (*rivals, *floors)]
    measured = ours or next(iter(row.others.values())).summary
    return [*cells, str(measured.count)]
