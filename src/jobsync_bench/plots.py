"""Plots: one picture per scenario, with a panel for each of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Picture
from matplotlib.ticker import NullFormatter, NullLocator

from jobsync_bench.figures import Figure, Series, Side, Unit
from jobsync_bench.formatting import number, quantity
from jobsync_bench.scenario import Scenario
from jobsync_bench.tables import rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['plot']

_OURS, _FLOOR = '#1f5fa8', '#b5b5b5'
_RIVALS = ('#8c564b', '#d16ba5', '#9a9a2e', '#2ba6b8', '#6f6f6f', '#c49c6b')
_STORES = ('#1f5fa8', '#d9822b', '#3a8f3a', '#a83250', '#7d5ba6')
_WIDTH_IN, _BAR_IN, _LINES_IN, _FRAME_IN = 9.0, 0.17, 1.7, 0.9
_FEW_LINES = 5
"""More lines than these have their legend outside the panel."""
_FAR_APART = 20.0
"""From this quotient of the highest and the lowest number on, the scale is logarithmic."""


def plot(scenario: Scenario, series: Sequence[Series], path: Path) -> bool:
    """Draw the series of a scenario, and return False if there was nothing to draw.

    Only the usual variant of jobsync is drawn. Other variants, and cases with zeros only, are in the tables.
    """
    usual = [each for each in series if each.side is not Side.OURS or each.who == 'ours']
    telling = {(each.figure, each.store, each.case) for each in usual if any(each.values)}
    drawn = [each for each in usual if (each.figure, each.store, each.case) in telling]
    panels = [(figure, here) for figure in scenario.figures if (here := [each for each in drawn if each.figure == figure.name])]
    if not panels:
        return False
    lines = [panel for panel in panels if panel[0].axis]
    grid: list[list[tuple[Figure, list[Series]]]] = [[panel] for panel in panels if not panel[0].axis]
    grid += [lines[first : first + 2] for first in range(0, len(lines), 2)]
    heights = [_FRAME_IN + (_LINES_IN if row[0][0].axis else _BAR_IN * _bars(row[0][1])) for row in grid]
    picture = Picture(figsize=(_WIDTH_IN, sum(heights)), layout='constrained', dpi=110)
    places = picture.add_gridspec(len(grid), 2, height_ratios=heights)
    for line, row in enumerate(grid):
        for side, (figure, here) in enumerate(row):
            panel = picture.add_subplot(places[line, side] if len(row) > 1 else places[line, :])
            panel.set_title(figure.name if len(panels) > 1 else scenario.title, fontsize=9, loc='left')
            (_draw_lines if figure.axis else _draw_bars)(panel, figure, here)
            panel.grid(visible=True, axis='both' if figure.axis else 'x', color='#dddddd', linewidth=0.6)
            panel.set_axisbelow(True)
            panel.spines[['top', 'right']].set_visible(False)
            panel.tick_params(labelsize=7.5)
    picture.savefig(path, metadata={'Software': None})
    return True


def _label(figure: Figure) -> str:
    return f'{figure.unit.sign}{" (more is better)" if figure.unit.more_is_better else ""}'


def _far_apart(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= _FAR_APART


def _bars(series: Sequence[Series]) -> int:
    rows = rows_of(series)
    return sum(1 + len(row.others) for row in rows) + len(rows)


def _draw_bars(panel: Axes, figure: Figure, series: Sequence[Series]) -> None:
    """Draw a group for each case, with the median and the middle half of each party."""
    rivals = list(dict.fromkeys(each.who for each in series if each.side is Side.RIVAL))
    places: list[float] = []
    labels: list[str] = []
    named: set[str] = set()
    place = 0.0
    for row in rows_of(series):
        group = [each for each in (row.ours, *row.others.values()) if each is not None]
        places.append(place + (len(group) - 1) / 2)
        labels.append(', '.join(filter(None, (row.store, row.label))))
        for each in group:
            summary = each.summary
            colour = {Side.OURS: _OURS, Side.FLOOR: _FLOOR}.get(each.side) or _RIVALS[rivals.index(each.who) % len(_RIVALS)]
            who = 'ours' if each.side is Side.OURS else 'the limit' if each.side is Side.FLOOR else each.who
            panel.barh(place, summary.median, height=0.8, color=colour, label=None if who in named else who)
            panel.plot([summary.lower, summary.upper], [place, place], color='black', linewidth=0.9)
            if figure.tail and summary.count > 1:
                panel.plot([summary.p99], [place], color='black', marker='|', markersize=5)
            text = quantity(summary.median, figure.unit) + (f' {each.who}' if each.side is Side.FLOOR else '')
            end = summary.p99 if figure.tail else summary.upper
            panel.annotate(text, (end, place), xytext=(3, 0), textcoords='offset points', va='center', fontsize=7)
            named.add(who)
            place += 1
        place += 0.6
    if _far_apart([each.summary.median for each in series]):
        panel.set_xscale('log')
    if figure.unit is Unit.SECONDS:
        panel.xaxis.set_major_formatter(lambda value, _: quantity(value, Unit.SECONDS))
    elif _far_apart([each.summary.median for each in series]):
        panel.xaxis.set_major_formatter(lambda value, _: number(value))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.15, y=0.01)
    panel.set_yticks(places, labels)
    panel.invert_yaxis()
    panel.set_xlabel(_label(figure), fontsize=8)
    if len(named) > 1:
        panel.legend(fontsize=7, frameon=False, loc='best')


def _draw_lines(panel: Axes, figure: Figure, series: Sequence[Series]) -> None:
    """Draw a line for each store and party, with the middle half shaded. A rival has a colour of its own in all stores."""
    lines: dict[tuple[str, str], list[Series]] = {}
    for each in series:
        if each.at is not None:
            lines.setdefault((each.store, each.who), []).append(each)
    stores = list(dict.fromkeys(store for store, _ in lines))
    rivals = list(dict.fromkeys(who for _, who in lines if who != 'ours'))
    for (store, who), points in lines.items():
        points = sorted(points, key=_place)
        x, summaries = [_place(each) for each in points], [each.summary for each in points]
        is_ours = who == 'ours'
        colour = _STORES[stores.index(store) % len(_STORES)] if is_ours else _RIVALS[rivals.index(who) % len(_RIVALS)]
        name = ', '.join(filter(None, (store, '' if is_ours else who))) or who
        medians = [each.median for each in summaries]
        panel.plot(x, medians, marker='o', markersize=3, label=name, color=colour, linestyle='-' if is_ours else '--')
        lower, upper = [each.lower for each in summaries], [each.upper for each in summaries]
        panel.fill_between(x, lower, upper, color=colour, alpha=0.15, linewidth=0)
        if figure.tail:
            panel.plot(x, [each.p99 for each in summaries], color=colour, linestyle=':', linewidth=1, label=f'{name}, p99')
    drawn = [each for points in lines.values() for each in points]
    _scale(panel, figure, sorted({_place(each) for each in drawn}), [value for each in drawn for value in _shown(figure, each)])
    panel.set_xlabel(figure.axis, fontsize=8)
    panel.set_ylabel(_label(figure), fontsize=8)
    aside: dict[str, Any] = {'loc': 'upper left', 'bbox_to_anchor': (1.0, 1.0)} if len(lines) > _FEW_LINES else {}
    panel.legend(fontsize=7, frameon=False, **aside)


def _shown(figure: Figure, series: Series) -> tuple[float, ...]:
    """Return the numbers of a series that are drawn."""
    summary = series.summary
    return (summary.median, summary.upper, *([summary.p99] if figure.tail else []))


def _place(series: Series) -> float:
    assert series.at is not None
    return series.at


def _scale(panel: Axes, figure: Figure, places: Sequence[float], shown: Sequence[float]) -> None:
    """Set logarithmic scales where numbers are far apart, and ticks where something was measured."""
    if _far_apart(places):
        panel.set_xscale('log')
    panel.set_xticks(places, [f'{place:,.0f}' for place in places])
    panel.xaxis.set_minor_locator(NullLocator())
    if _far_apart(shown):
        panel.set_yscale('log')
    else:
        panel.set_ylim(0, 1.15 * max(shown) or 1)
    if figure.unit is Unit.SECONDS:
        panel.yaxis.set_major_formatter(lambda value, _: quantity(value, Unit.SECONDS))
    elif _far_apart(shown):
        panel.yaxis.set_major_formatter(lambda value, _: number(value))
    panel.yaxis.set_minor_formatter(NullFormatter())
