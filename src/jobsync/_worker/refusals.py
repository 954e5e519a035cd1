"""The errors of forms of use that are refused, and how errors are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from jobsync.errors import JobsyncError, WrongProcess

__all__ = ['copy_error', 'refused', 'without_chain']


def without_chain(error: JobsyncError) -> JobsyncError:
    """Return an error without the steps of other threads and of the driver, which explain nothing to users.

    The driver's exception is still there, as ``__context__``.
    """
    if error.__cause__ is not None:
        error.__context__, error.__cause__ = error.__cause__, None
    error.__suppress_context__ = True
    return error.with_traceback(None)


def copy_error(node_name: str) -> WrongProcess:
    """Return the error for a job that is copied or pickled, as ``multiprocessing`` does with the arguments of a process."""
    return WrongProcess(
        f'job {node_name!r} cannot be copied or pickled: its node is this process alone. Give another process the node name and '
        'the CoordinationConfig, which can be pickled, and let it make a Job of its own, under a name of its own'
    )


def refused(text: str) -> Callable[..., NoReturn]:
    """Return a method that refuses a form of use, such as ``with`` for ``async with``; ``{0}`` in the text is the object."""

    def refuse(self: object, *_: object) -> NoReturn:
        raise JobsyncError(text.format(self))

    return refuse
