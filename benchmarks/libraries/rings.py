"""Libraries that compute the node of a key from the names of the nodes, each for its own environment, with its own defaults.

    uhashring    a ring of 160 points a node
    rendezvous   clandestined: the node whose hash with the key is highest
    tooz         the ring of tooz's partitioned groups, 32 points a node

Each line of input is ``placement NODES TOKENS joins|leaves``; the answer is that of ``placing.change``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.libraries.placing import Placing, change
from benchmarks.libraries.serving import serve

# mypy knows none of these libraries: they are in environments of their own.


def uhashring(nodes: Sequence[str]) -> Callable[[str], str]:
    from uhashring import HashRing  # type: ignore[import-not-found,unused-ignore]

    ring = HashRing(nodes=list(nodes))
    look: Callable[[str], str] = ring.get_node
    return look


def rendezvous(nodes: Sequence[str]) -> Callable[[str], str]:
    from clandestined import RendezvousHash  # type: ignore[import-not-found,unused-ignore]

    look: Callable[[str], str] = RendezvousHash(nodes=list(nodes)).find_node
    return look


def tooz(nodes: Sequence[str]) -> Callable[[str], str]:
    from tooz.hashring import HashRing  # type: ignore[import-not-found,unused-ignore]

    ring = HashRing(nodes)

    def look(key: str) -> str:
        (node,) = ring.get_nodes(key.encode())
        return str(node)

    return look


_LIBRARIES = {'uhashring': uhashring, 'rendezvous': rendezvous, 'tooz': tooz}


def main(library: str) -> None:
    def place(nodes: Sequence[str]) -> Placing:
        look = _LIBRARIES[library](nodes)
        return lambda tokens: [look(str(token)) for token in range(tokens)], look

    def run(line: str) -> Any:
        verb, nodes, tokens, what = line.split()
        if verb != 'placement' or what not in ('joins', 'leaves'):
            raise ValueError(line)
        return change(place, int(nodes), int(tokens), what)  # type: ignore[arg-type]

    serve(library, run)


if __name__ == '__main__':
    main(*sys.argv[1:])
