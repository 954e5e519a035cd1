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

import attrs

from jobsync._core.assignment import Assignment, Plan
from jobsync._core.records import Revision

__all__ = ['Requests']

_MOST = 64
"""How many versions are remembered: an acknowledgement of an older one does not count."""


@attrs.define
class Requests:
    """Successive versions that this leader has committed, and by which of them each hand-over was requested."""

    versions: tuple[Revision, ...] = ()
    """Rising: the last is the one at hand, and the first may be anyone's."""
    since: dict[int, int] = attrs.field(factory=dict)
    """For tokens and pins with a target the number of the version that requested them. Those without an entry were requested in
    each of ``versions``: as a rule all, of which there may be half a million."""

    def read(self, version: Revision) -> None:
        """Take the version at hand: if it is not the last of ``versions``, it begins a new series."""
        if self.versions[-1:] != (version,):
            self._begin(version)

    def commit(self, before: Assignment, plan: Plan, version: Revision) -> None:
        """Note that the leader has committed a plan, made from the assignment ``before``, as this version."""
        is_calm = not before.targets and all(pin.target is None for pin in before.pins.values())
        if is_calm or plan.unpinned or self.versions[-1:] != (before.version,):
            self._begin(version)
            return
        since, number = self.since, version.number
        for group in plan.groups:
            if group.target is None:
                if since:
                    for token in group.tokens:
                        since.pop(token, None)
            else:
                is_new_owner = group.version == plan.number
                since.update((token, number) for token in group.tokens if is_new_owner or token not in before.targets)
        for pin in plan.pins:
            was = before.pins.get(pin.id)
            if pin.target is None:
                since.pop(pin.id, None)
            elif was is None or was.target is None or (was.owner, was.task_id) != (pin.owner, pin.task_id):
                since[pin.id] = number
        self.versions = (*self.versions, version)[-_MOST:]

    def _begin(self, version: Revision) -> None:
        self.versions, self.since = (version,), {}
