"""All baselines. A library is started when a figure is measured that it supports, and ended when it is no longer needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from benchmarks.baselines import idle, ownership, placement, plan, store, takeover, tasks
from benchmarks.baselines.offering import Offer, Slots
from benchmarks.libraries.environments import LibraryUnavailable
from jobsync_bench.bench import Bench, Party

__all__ = ['BaselineRegistry']

_OFFERS: Mapping[tuple[str, str], Sequence[Offer]] = {
    **ownership.OFFERS,
    **plan.OFFERS,
    **placement.OFFERS,
    **store.OFFERS,
    **tasks.OFFERS,
    **idle.OFFERS,
    **takeover.OFFERS,
}
"""Offers by scenario and figure."""


@attrs.define
class BaselineRegistry:
    """All other parties of a run. A library that cannot be had is noted once."""

    _slots: dict[int, Slots] = attrs.field(factory=dict)
    """The slots of each bench that is being played."""

    def find(self, bench: Bench, figure: str, case: str) -> Mapping[str, Party]:
        """Return the parties that can do the same work: see ``jobsync_bench.bench.Baselines``."""
        found: dict[str, Party] = {}
        for offer in _OFFERS.get((bench.scenario.name, figure), ()):
            try:
                found |= offer(self._slots_of(bench), case)
            except LibraryUnavailable as error:
                bench.note(str(error))
            except Exception as error:  # noqa: BLE001  (whatever is wrong with a rival, ours is measured)
                bench.note(f'{bench.scenario.name}: a rival could not be started: {type(error).__name__}: {error}')
        return found

    def _slots_of(self, bench: Bench) -> Slots:
        if id(bench) not in self._slots:
            bench.stack.callback(self._slots.pop, id(bench))
            self._slots[id(bench)] = bench.stack.enter_context(Slots(bench))
        return self._slots[id(bench)]
