"""Since which version each hand-over has been requested without a break (rule R3).

An owner that has acknowledged a version gains nothing before it has read a later one. What it has released of a token is released
for as long as every version that follows requests the token of it too::

    t=0  version 7 gives token 3 of a the target b
    t=1  version 8 gives token 4 of a the target b
    t=2  a's acknowledgement of version 7 comes: whichever of the two a has read by now, it claims nothing of token 3
    t=3  version 9 gives token 3 to b; token 4 waits until a has acknowledged version 8

Otherwise an owner that is far from the store would never catch up with versions that follow each other.

A leader knows this of the versions that it has committed itself, each upon the one before. Between any others there may have been
one that gave the owner its token back for a while. The removal of a pin is such a break too::

    t=0  token 3 of a has the target b; one of its tasks has a pin, which a owns as well
    t=1  a acknowledges that: the task, which it may have in flight, counts for the pin
    t=2  the pin is removed, and the task counts for token 3 from now on, of which a was to release other tasks alone
"""

from __future__ import annotations

from array import array
from collections import defaultdict

import attrs

from jobsync._core.assignment import Assignment, Plan
from jobsync._core.records import Revision

__all__ = ['Request', 'Requests']

_MOST = 64
"""How many versions are remembered: an acknowledgement of an older one does not count."""


@attrs.frozen
class Request:
    """What a version requests of an owner, and the version before did not."""

    version: Revision
    owner: str
    tokens: array[int] = attrs.field(repr=lambda tokens: f'<{len(tokens)} tokens>')
    """Tokens and pins: there may be half a million, which a set or a dictionary would take 40 MB for."""


@attrs.define
class Requests:
    """Successive versions that this leader has committed, and what each of them was the first to request."""

    versions: tuple[Revision, ...] = ()
    """Rising: the last is the one at hand, and the first may be anyone's."""
    begun_here: bool = False
    """Whether this leader has committed a version of the series, and named in it each owner that had anything to release."""
    added: tuple[Request, ...] = ()
    """What versions after the first have added. Everything else that has a target was requested in each of ``versions``."""

    def read(self, version: Revision) -> None:
        """Take the version at hand: if it is not the last of ``versions``, it begins a new series."""
        if self.versions[-1:] != (version,):
            self._begin(version, here=False)

    def commit(self, before: Assignment, plan: Plan, version: Revision) -> None:
        """Note that the leader has committed a plan, made from the assignment ``before``, as this version."""
        is_calm = not before.targets and all(pin.target is None for pin in before.pins.values())
        if is_calm or plan.unpinned or self.versions[-1:] != (before.version,):
            self._begin(version, here=is_calm or bool(plan.unpinned))
            return
        new: defaultdict[str, array[int]] = defaultdict(lambda: array('q'))
        for group in plan.groups:
            if group.owner is not None and group.target is not None:
                is_new_owner = group.version == plan.number
                new[group.owner].extend(token for token in group.tokens if is_new_owner or token not in before.targets)
        for pin in plan.pins:
            was = before.pins.get(pin.id)
            if pin.owner is not None and pin.target is not None and (was is None or was.target is None or was.owner != pin.owner):
                new[pin.owner].append(pin.id)
        versions = (*self.versions, version)[-_MOST:]
        kept = [request for request in self.added if request.version.number > versions[0].number]
        kept += [Request(version, owner, tokens) for owner, tokens in sorted(new.items()) if tokens]
        self.versions, self.begun_here, self.added = versions, True, tuple(kept)

    def _begin(self, version: Revision, *, here: bool) -> None:
        self.versions, self.begun_here, self.added = (version,), here, ()
