"""Alert rules of Prometheus over scrapes at times of a test's own: what is pending, and what fires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import attrs
import promql_parser
import yaml
from tests.support.promql import Labels, Scrape, Vector, evaluate

__all__ = ['INTERVAL_SEC', 'AlertState', 'Rule', 'rules', 'timeline']

INTERVAL_SEC = 30.0
"""The time between two scrapes of a timeline, each followed by an evaluation of the rules."""
_HEALTHY_SEC = 600.0
"""How long a timeline is healthy before the fault: longer than every range of a rate."""


class AlertState(IntEnum):
    """What Prometheus says of an alert."""

    INACTIVE = 0
    PENDING = 1
    FIRING = 2


@attrs.frozen
class Rule:
    """One alert rule: its expression must hold for some time before it fires."""

    name: str
    expression: str
    for_sec: float

    def states(self, scrapes: Sequence[Scrape]) -> Iterator[tuple[float, AlertState]]:
        """Evaluate the rule at each scrape; yield its time, and the state of the series for which the alert is worst.

        As in Prometheus, the time begins at the first evaluation that selects a series, and anew after one that does not.
        """
        active_since: dict[Labels, float] = {}
        for count, scrape in enumerate(scrapes, 1):
            selected = evaluate(self.expression, scrapes[:count])
            active_since = {labels: active_since.get(labels, scrape.at) for labels in selected}
            held_sec = scrape.at - min(active_since.values(), default=scrape.at)
            is_firing = bool(selected) and held_sec >= self.for_sec
            yield scrape.at, AlertState.FIRING if is_firing else AlertState.PENDING if selected else AlertState.INACTIVE


def rules(path: Path) -> Mapping[str, Rule]:
    """Return the alert rules of a file, by their names."""
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text())['groups']
    return {
        rule['alert']: Rule(rule['alert'], rule['expr'], _seconds(rule.get('for'))) for group in groups for rule in group['rules']
    }


def _seconds(text: str | None) -> float:
    return 0.0 if text is None else float(promql_parser.parse_duration(text).total_seconds())


def timeline(healthy: Scrape, faulty: Scrape, lasts_sec: float, until_sec: float) -> list[Scrape]:
    """Return scrapes of a fault that begins at 0 and lasts for some time, made of a scrape before and one during the fault.

    While the fault lasts, gauges are as during it, and each interval raises the counters by what the two scrapes differ by.
    Before and after, gauges are as in the healthy scrape, and counters stand still.
    """
    scrapes = [attrs.evolve(healthy, at=-at * INTERVAL_SEC) for at in range(int(_HEALTHY_SEC / INTERVAL_SEC), -1, -1)]
    for number in range(1, int(until_sec / INTERVAL_SEC) + 1):
        at = number * INTERVAL_SEC
        times = min(number, int(lasts_sec / INTERVAL_SEC))
        gauges = faulty.gauges if at <= lasts_sec else healthy.gauges
        scrapes.append(Scrape(at, gauges, _risen(healthy.counters, faulty.counters, times)))
    return scrapes


def _risen(before: Mapping[str, Vector], after: Mapping[str, Vector], times: int) -> dict[str, Vector]:
    """Return counters that have risen so many times as from ``before`` to ``after``; one that is new began at 0."""
    return {
        name: {
            labels: (start := before.get(name, {}).get(labels, 0.0)) + times * (value - start) for labels, value in vector.items()
        }
        for name, vector in after.items()
    }
