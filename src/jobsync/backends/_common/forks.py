"""What a backend does in a forked child: go on without anything that the parent process has open."""

from __future__ import annotations

import os
import weakref
from ctypes import py_object, pythonapi
from typing import Protocol

__all__ = ['Forgetful', 'abandon', 'forget_in_child']


class Forgetful(Protocol):
    """An object that must begin anew in a forked child."""

    def forget(self) -> None:
        """Begin anew, in a forked child, and close nothing of the parent's."""


def abandon(thing: object) -> None:
    """Keep a thing for good, so that not even the garbage collector closes what belongs to the parent process."""
    pythonapi.Py_IncRef(py_object(thing))


def forget_in_child(thing: Forgetful) -> None:
    """Call ``thing.forget()`` in every child that this process forks, for as long as the thing is in use."""
    _forgetful.add(thing)


_forgetful: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def _forget_all() -> None:
    for thing in list(_forgetful):
        thing.forget()


os.register_at_fork(after_in_child=_forget_all)
