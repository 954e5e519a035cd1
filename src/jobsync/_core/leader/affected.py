"""Which nodes are to read a plan's version at once. Hints name them (``Backend.wait``); the others read it when it is their turn.

A node that is named for nothing reads the assignment once more. A node that is not named and should be is late by a heartbeat
interval, by almost two in a large cluster. Neither says anything of ownership: that depends on what a node has read and
acknowledged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from jobsync._core.assignment import Assignment, TokenGroup
from jobsync._core.leader.admission import MANY
from jobsync._core.records import Member, Pin

__all__ = ['affected_by']


def affected_by(
    old: Assignment,
    members: Mapping[str, Member | None],
    groups: Collection[TokenGroup],
    pins: Collection[Pin],
    *,
    asks_again: bool,
) -> frozenset[str]:
    """Return the names of the nodes that lose or gain something by a plan, or have to acknowledge its version.

    ``asks_again`` says whether owners have to acknowledge this version for what earlier ones have requested. All other arguments
    after ``old`` are what the plan changes. A pin that is removed affects the owner of the hash token, whose member the plan
    changes too, because its fences rise. Of many new members those that are to receive something are named by the plan
    that gives it.
    """
    # t=0  450 nodes join 51, and a plan requests of the 51 what the others are to have
    # t=1  all 501 read that version, though 450 of them find nothing in it, and the acknowledgements of the 51 wait among them
    waiting = {group.target for group in groups} | {pin.target for pin in pins}
    newcomers = members.keys() - old.members.keys()
    named = members.keys() - (newcomers & waiting) if len(newcomers) > MANY else members.keys()
    names = {group.owner for group in groups} | {pin.owner for pin in pins} | named
    if not asks_again:
        return frozenset(name for name in names if name is not None)
    # t=0  version 7 requests token 3 of a; a acknowledges it, and still works on token 3; its leader dies
    # t=1  version 8, of another leader, gives token 5 to b, and changes nothing for a
    # t=2  a says that it has finished with what version 7 requested, of which this leader knows nothing (``requests``)
    # Unless a reads version 8 and acknowledges that, token 3 waits for its next heartbeat in turn.
    written = bytearray(old.total_tokens)  # a set of half a million tokens would take 30 MB
    for group in groups:
        for token in group.tokens:
            written[token] = True
    asked = {old.owner[token] for token in old.targets if not written[token]}
    names |= {old.names[at] for at in asked if at >= 0}
    names |= {pin.owner for pin in old.pins.values() if pin.target is not None}
    return frozenset(name for name in names if name is not None)
