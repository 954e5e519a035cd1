"""How many tokens and pins each node is to have: balanced, and with the fewest moves.

Theory of operation
-------------------

Tokens may be on any node, a pin only on the nodes its group allows. Balanced means that no item, nor any chain of items
(a pin from n to k, another from k to m), can be handed from n to m with load(n) / weight(n) > (load(m) + 1) / weight(m).
That is: no step improves the sum of load * (load + 1) / (2 * weight), a separable convex function over the bases of a
polymatroid, where the local optimum is the global one. One list of numbers distinguishes all its optima from the rest: each
node has a *price* (see ``apportionment``) such that

* a node takes every mark below its price, perhaps the mark equal to it, none above;
* an item goes only to the cheapest of the nodes it may be on; so tokens go to the cheapest nodes of all.

Every outcome that keeps to these prices is balanced, and every balanced outcome keeps to them.

**Prices** are found by decomposition (Fujishige 1980, Groenevelt 1991). Suppose that all nodes have one price: the one that
sharing out all items among them gives. Try to place the pins so. If they all fit, tokens fill what is left, and the supposition
was right. If not, the pins left over and all they could push aside are confined to a set of nodes that gets more than its
share, whatever happens; those nodes and these pins are one smaller problem, the rest with the tokens another. The set is
the least of those that exceed their share by most, so every piece of it exceeds its own share, and the prices found in it
are above all prices found in the rest. As a rule pins are few and the first try succeeds.

**Moves.** Nodes of one price and the items that go there are a transport problem, apart from the others: each node takes
its marks below the price, and ``spare`` of them one more (a tie). Keeping an item where it is costs nothing, moving a token
costs 1, moving a pin a trifle more, so that of two outcomes with as many moves the one with fewer pin moves is cheaper.
The flow begins with everything kept that fits, pins first: nothing can be cheaper. Pins left over go where there is room.
What then still has no place is rare; for it alone the network is built and searched for the cheapest way of pushing others
aside. Tokens come last, for any room will do for them, at 1 each: the closed form in which the bulk is handled. Whatever
is left open goes by the tokens' homes and then by the order of the nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jobsync._core.planner.transport import Part, Transport, TransportProblem

__all__ = ['target_shares']


def target_shares(problem: TransportProblem) -> tuple[Sequence[int], Sequence[Mapping[int, int]]]:
    """Return how many tokens each node is to have, and how many pins of each group.

    These are the balanced shares that need the fewest moves; among those, the fewest moves of pins.
    """
    tokens = [0] * len(problem.fixed)
    groups: list[Mapping[int, int]] = [{} for _ in problem.groups]
    for transport in _decomposed(problem):
        for node, count in transport.tokens.items():
            tokens[node] = count
        for (number, _), pins in zip(transport.part.groups, transport.pins, strict=True):
            groups[number] = pins
    return tokens, groups


def _decomposed(problem: TransportProblem) -> Iterator[Transport]:
    """Yield parts of one price each, filled; no two of the same price."""
    items = problem.tokens + sum(group.size for group in problem.groups)
    whole = [(number, group.allowed) for number, group in enumerate(problem.groups)]
    parts = [Part(range(len(problem.fixed)), whole, problem.tokens, items)]
    while parts:
        part = parts.pop()
        price = problem.scale.price(part.nodes, problem.fixed, part.items)
        transport = Transport(problem, part, price)
        if transport.fill():
            yield transport
        else:
            parts += _split(part, problem, transport.crowded)


def _split(part: Part, problem: TransportProblem, crowded: set[int]) -> tuple[Part, Part]:
    """Return the crowded nodes with the pins confined to them, and the rest."""
    confined, others, pins = [], [], 0
    for number, allowed in part.groups:
        elsewhere = [node for node in allowed if node not in crowded]
        if elsewhere:
            others.append((number, elsewhere))
        else:
            confined.append((number, allowed))
            pins += problem.groups[number].size
    return (
        Part([node for node in part.nodes if node in crowded], confined, tokens=0, items=pins),
        Part([node for node in part.nodes if node not in crowded], others, tokens=part.tokens, items=part.items - pins),
    )
