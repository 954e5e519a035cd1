"""A picture for each scenario, with a panel for each of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Picture

from jobsync.bench.figures import Figure, Series, Side, Unit
from jobsync.bench.scenario import Scenario
from jobsync.bench.tables import rows_of
from jobsync.bench.wording import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['plot']

_OURS, _FLOOR = '#1f5fa8', '#b5b5b5'
_RIVALS = ('#d9822b', '#a83250', '#6b8e23', '#7d5ba6', '#c2a83e', '#2b8f8f')
_STORES = ('#1f5fa8', '#d9822b', '#3a8f3a', '#a83250', '#7d5ba6')
_WIDTH_IN, _BAR_IN, _LINES_IN, _FRAME_IN = 8.5, 0.2, 3.2, 1.0
_FAR_APART = 20.0
"""From this quotient of the highest and the lowest number on, the scale is logarithmic."""


def plot(scenario: Scenario, series: Sequence[Series], path: Path) -> bool:
    """Draw what a scenario has measured; whether there was anything to draw."""
    panels = [(figure, [each for each in series if each.figure == figure.name]) for figure in scenario.figures]
    panels = [(figure, each) for figure, each in panels if each]
    if not panels:
        return False
    heights = [_FRAME_IN + (_LINES_IN if figure.axis else _BAR_IN * _bars(each)) for figure, each in panels]
    picture = Picture(figsize=(_WIDTH_IN, sum(heights)), layout='constrained', dpi=110)
    axes = picture.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (figure, each), panel in zip(panels, axes, strict=True):
        panel.set_title(f'{scenario.title}: {figure.name}' if len(panels) > 1 else scenario.title, fontsize=10, loc='left')
        (_draw_lines if figure.axis else _draw_bars)(panel, figure, each)
        panel.grid(visible=True, axis='both' if figure.axis else 'x', color='#dddddd', linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[['top', 'right']].set_visible(False)
        panel.tick_params(labelsize=8)
    picture.savefig(path, metadata={'Software': None})
    return True


def _label(figure: Figure) -> str:
    return f'{figure.unit.sign}{" (more is better)" if figure.unit.more_is_better else ""}'


def _far_apart(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= _FAR_APART


def _bars(series: Sequence[Series]) -> int:
    rows = rows_of(series)
    return sum(1 + len(row.beside) for row in rows) + len(rows)


def _draw_bars(panel: Axes, figure: Figure, series: Sequence[Series]) -> None:
    """A group for each case, with the median and the middle half of each party."""
    rivals = list(dict.fromkeys(each.who for each in series if each.side is Side.RIVAL))
    places: list[float] = []
    labels: list[str] = []
    named: set[str] = set()
    place = 0.0
    for row in rows_of(series):
        group = [each for each in (row.ours, *row.beside.values()) if each is not None]
        places.append(place + (len(group) - 1) / 2)
        labels.append(', '.join(filter(None, (row.store, row.label))))
        for each in group:
            summary = each.summary
            colour = {Side.OURS: _OURS, Side.FLOOR: _FLOOR}.get(each.side) or _RIVALS[rivals.index(each.who) % len(_RIVALS)]
            who = 'ours' if each.side is Side.OURS else 'the limit' if each.side is Side.FLOOR else each.who
            panel.barh(place, summary.median, height=0.8, color=colour, label=None if who in named else who)
            panel.plot([summary.lower, summary.upper], [place, place], color='black', linewidth=0.9)
            text = quantity(summary.median, figure.unit) + (f' {each.who}' if each.side is Side.FLOOR else '')
            panel.annotate(text, (max(summary.upper, summary.median), place), xytext=(3, 0), textcoords='offset points',
                           va='center', fontsize=7)  # fmt: skip
            named.add(who)
            place += 1
        place += 0.6
    if _far_apart([each.summary.median for each in series]):
        panel.set_xscale('log')
    panel.margins(x=0.15, y=0.01)
    panel.set_yticks(places, labels)
    panel.invert_yaxis()
    panel.set_xlabel(_label(figure), fontsize=8)
    if len(named) > 1:
        panel.legend(fontsize=7, frameon=False, loc='best')


def _draw_lines(panel: Axes, figure: Figure, series: Sequence[Series]) -> None:
    """A line for each store and party, with the middle half shaded."""
    lines: dict[tuple[str, str, Side], list[Series]] = {}
    for each in series:
        if each.at is not None:
            lines.setdefault((each.store, each.who, each.side), []).append(each)
    stores = list(dict.fromkeys(store for store, _, _ in lines))
    for (store, who, side), points in lines.items():
        points = sorted(points, key=lambda each: each.at or 0.0)
        x = [each.at or 0.0 for each in points]
        summaries = [each.summary for each in points]
        style: dict[str, Any] = {'color': _STORES[stores.index(store) % len(_STORES)]}
        if side is not Side.OURS:
            style['linestyle'] = '--' if side is Side.RIVAL else ':'
        name = ', '.join(filter(None, (store, '' if who == 'ours' else who))) or who
        panel.plot(x, [each.median for each in summaries], marker='o', markersize=3, label=name, **style)
        panel.fill_between(x, [each.lower for each in summaries], [each.upper for each in summaries],
                           color=style['color'], alpha=0.15, linewidth=0)  # fmt: skip
    medians = [each.summary.median for points in lines.values() for each in points]
    if _far_apart([each.at or 0.0 for points in lines.values() for each in points]):
        panel.set_xscale('log')
    if _far_apart(medians):
        panel.set_yscale('log')
    else:
        panel.set_ylim(bottom=0)
    if figure.unit is Unit.SECONDS:
        panel.yaxis.set_major_formatter(lambda value, _: quantity(value, Unit.SECONDS))
    panel.set_xlabel(figure.axis, fontsize=8)
    panel.set_ylabel(_label(figure), fontsize=8)
    panel.legend(fontsize=7, frameon=False)
