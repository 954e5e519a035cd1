"""Entry points, also where a file of another distribution that names its own is damaged."""

from __future__ import annotations

import _thread
import re
import threading
from collections.abc import Callable
from importlib import metadata
from importlib.metadata import Distribution, EntryPoint

from jobsync import _threads

__all__ = ['is_of_module', 'read_entry_points']


def read_entry_points(group: str) -> tuple[list[EntryPoint], dict[str, str]]:
    """Return the entry points of a group; and for each distribution whose own cannot be read its name, with the reason."""
    try:
        return list(metadata.entry_points(group=group)), {}
    except Exception:  # noqa: BLE001, S110 - a line without "=" is a TypeError, and Python does not say in which file it is
        pass
    by_name: dict[str, Distribution] = {}
    for distribution in metadata.distributions():
        by_name.setdefault(_name_of(distribution), distribution)  # the first of a name counts, as it does above
    found, damaged = list[EntryPoint](), dict[str, str]()
    for name, distribution in by_name.items():
        try:
            found += distribution.entry_points.select(group=group)
        except Exception as error:  # noqa: BLE001 - as above
            damaged[name] = f'the entry_points.txt of {name} cannot be read: {type(error).__name__}: {error}'
    return found, damaged


def is_of_module(raised: BaseException, load: Callable[[], object]) -> bool:
    """Return whether what was raised as an entry point was loaded is its module's, which may end its program (``SystemExit``).

    In the main thread a signal's handler may have raised it, whose exception has to go on. So ``load`` is called once more, in a
    thread in which no handler runs.
    """
    if isinstance(raised, Exception) or threading.current_thread() is not threading.main_thread():
        return True
    if not isinstance(raised, SystemExit):
        return False
    is_over, ended = _thread.allocate_lock(), list[BaseException]()

    def run() -> None:
        try:
            load()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is no other thread's
            ended.append(error)
        finally:
            is_over.release()

    is_over.acquire()
    if not _threads.start(lambda: threading.Thread(target=run, name='jobsync-load', daemon=True)):
        return False
    # t=0  a module of the user's is imported, which reads a cluster, and a plugin exits that imports the same module
    # t=1  the other thread waits for the end of that import, which waits here: so not for ever
    return is_over.acquire(timeout=_threads.STARTING_SEC) and any(isinstance(error, SystemExit) for error in ended)


def _name_of(distribution: Distribution) -> str:
    """Return the name of a distribution as installers compare it; where its metadata is damaged too, one that no other has."""
    try:
        return re.sub('[-_.]+', '-', distribution.metadata['Name']).lower()
    except Exception:  # noqa: BLE001 - damaged metadata may raise anything
        return str(getattr(distribution, '_path', distribution))
