"""How evenly keys are placed on nodes, and how many move when a node joins or leaves: the same judgement for ours and for rivals.

    python -m benchmarks.placement
    python -m benchmarks.placement --tokens 100000 --nodes 10 100

Ours places tokens by a plan that the leader makes and every node reads; the others compute the node of a key from the nodes'
names alone. Both are asked for the same tokens on the same nodes, before and after a change.
"""

from __future__ import annotations

import argparse
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.compare import Other, machine, markdown
from benchmarks.rivals.catalogue import RINGS, service
from benchmarks.rivals.environments import RivalUnavailable
from benchmarks.rivals.placing import Change, Placing, change

from jobsync.core.hashing import tokenizer
from jobsync.core.rebalance import FREE, rebalance

__all__ = ['ours', 'rings']


class Planned:
    """A placement of ours: a plan for a cluster that had no owners yet, or for the one before."""

    def __init__(self, tokens: int, nodes: Sequence[str], before: Planned | None = None) -> None:
        names = list(before.names if before else [])
        names += [name for name in nodes if name not in names]
        place = array('i', before.place if before else [FREE]) * (1 if before else tokens)
        position = {name: number for number, name in enumerate(names)}
        plan = rebalance(dict.fromkeys(nodes, 1.0), names, place, array('i', [FREE]) * tokens, ())
        for name, moved in plan.moves.items():
            for token in moved:
                place[token] = position[name]
        self.names: list[str] = names
        self.place: array[int] = place
        self._token_of = tokenizer('xxh3', tokens)

    def placed(self, tokens: int) -> list[str]:
        """The node of each token."""
        return [self.names[self.place[token]] for token in range(tokens)]

    def look(self, key: str) -> str:
        """The node of a task: what ``can_claim_task`` pays but for the lease."""
        return self.names[self.place[self._token_of(key)]]


def ours(nodes: int, tokens: int, what: Change) -> dict[str, float]:
    """How our plan places the tokens; see ``placing.quality``."""
    placings: list[Planned] = []

    def place(names: Sequence[str]) -> Placing:
        placings.append(Planned(tokens, names, placings[-1] if placings else None))
        return placings[-1].placed, placings[-1].look

    return change(place, nodes, tokens, what)


@contextmanager
def rings() -> Iterator[dict[str, Other]]:
    """The libraries that can be had, as processes; one that cannot is named on standard error."""
    found: dict[str, Other] = {}
    try:
        for name in RINGS:
            try:
                found[name] = service(name).start(library=name.partition(' ')[0])
            except RivalUnavailable as error:
                print(error, file=sys.stderr, flush=True)
        yield found
    finally:
        for other in found.values():
            other.__exit__(None, None, None)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tokens', type=int, default=10_000)
    parser.add_argument('--nodes', type=int, nargs='+', default=[4, 10, 100])
    options = parser.parse_args(arguments)
    rows = []
    with rings() as found:
        for nodes in options.nodes:
            for what in ('joins', 'leaves'):
                places = {'ours': partial(ours, nodes, options.tokens, what)}
                for name, other in found.items():
                    places[name] = partial(other.ask, f'placement {nodes} {options.tokens} {what}')
                for name, place in places.items():
                    rows.append(row(f'{nodes} nodes, one {what}', name, place()))
    columns = [
        'change',
        'who',
        'most/mean',
        'least/mean',
        'deviation %',
        'tasks most/mean',
        'moved',
        'fewest',
        'between others',
        'change ms',
        'look ns',
    ]
    print(machine(), markdown(columns, rows), sep='\n\n')


def row(what: str, who: str, came: dict[str, Any]) -> list[str]:
    counts = (f'{int(came[name]):,}' for name in ('moved', 'fewest', 'between_others'))
    shares = (f'{came["most"]:.3f}', f'{came["least"]:.3f}', f'{100 * came["deviation"]:.2f}', f'{came["tasks_most"]:.3f}')
    return [what, who, *shares, *counts, f'{1e3 * came["change_sec"]:.2f}', f'{1e9 * came["look_sec"]:.0f}']


if __name__ == '__main__':
    main(sys.argv[1:])
