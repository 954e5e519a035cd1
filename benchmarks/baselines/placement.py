"""Baselines of the placement scenario: hash rings and rendezvous hashing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from benchmarks.baselines.offering import Offer, Slots
from benchmarks.libraries.catalogue import RINGS, service
from benchmarks.libraries.environments import python_of
from benchmarks.libraries.process import LibraryProcess
from benchmarks.scenarios.placement import FIGURES, words_of
from jobsync_bench.bench import Party

__all__ = ['OFFERS']


def ring(name: str, figure: str) -> Offer:
    """Offer one library at one figure."""

    def offer(slots: Slots, case: str) -> Mapping[str, Party]:
        @contextmanager
        def started() -> Iterator[LibraryProcess]:
            python_of(service(name).rival)
            with service(name).start(library=name.partition(' ')[0]) as other:
                yield other

        nodes, what, tokens = words_of(case)
        other = slots.have(name, '', started)

        def placed() -> AbstractContextManager[dict[str, float]]:
            return nullcontext(other.ask(f'placement {nodes} {tokens} {what}'))

        came = slots.have(f'{name}, placed', case, placed)
        return {name: Party(lambda: FIGURES[figure](came))}

    return offer


OFFERS: dict[tuple[str, str], tuple[Offer, ...]] = {
    ('placement', figure): tuple(ring(name, figure) for name in RINGS) for figure in FIGURES
}
