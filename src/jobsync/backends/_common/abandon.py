"""What a forked child does with what its parent has open."""

from __future__ import annotations

from ctypes import py_object, pythonapi

__all__ = ['abandon']


def abandon(thing: object) -> None:
    """Keep a thing for good, so that not even the garbage collector closes what belongs to the parent process."""
    pythonapi.Py_IncRef(py_object(thing))
