"""What a backend does in a forked child: go on without anything that the parent process has open."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ['Forgetful', 'forget_in_child']


class Forgetful(Protocol):
    """An object that must begin anew in a forked child."""

    def forget(self) -> None:
        """Begin anew, in a forked child, and close nothing of the parent's."""


def forget_in_child(thing: Forgetful) -> None:
    """Call ``thing.forget()`` in every child that this process forks, for as long as the thing is in use."""
    _forgetful.add(thing)


_forgetful: weakref.WeakSet[Forgetful] = weakref.WeakSet()
_is_done = False


def _forget_all() -> None:
    global _is_done
    for thing in list(_forgetful):
        thing.forget()
    _is_done = True


def _forget_all_the_same() -> None:
    # t=0  a child has been forked, and leaves to its parent what the parent has open
    # t=1  a signal comes, whose handler raises: Python reports that, and goes on with the function that is registered next
    # t=2  the child uses a handle of its parent's, over a connection that the parent uses as well
    global _is_done
    if not _is_done:
        _forget_all()
    _is_done = False


for _each in (_forget_all, _forget_all_the_same):
    os.register_at_fork(after_in_child=_each)
