"""The seam: what jobsync takes from Python of threads, clocks, queues and signals, replaced by a virtual host.

The modules of jobsync take these from ``jobsync._runtime.clock`` and ``threads``, or by the names ``threading``, ``time``,
``SimpleQueue`` and ``signal``. The names are replaced in all modules, by what they mean: so a module that begins to use one of
them is on the virtual host without another word, and what only a scheduler replaces, such as locks, needs no seam of its own.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.scheduled.virtual.host import VirtualHost
from tests.scheduled.virtual.signals import VirtualSignals
from tests.scheduled.virtual.threads import (
    VirtualCondition,
    VirtualEvent,
    VirtualLocal,
    VirtualLock,
    VirtualQueue,
    VirtualThread,
    VirtualTimer,
)

from jobsync import _event_log, _threads
from jobsync._runtime import clock, node, startup, threads
from jobsync._worker import signals, store_calls

__all__ = ['replaced']

_EPOCH = 1_700_000_000.0
_ALSO = ('jobsync.job', 'jobsync.backends.memory', 'jobsync._core.leader.decide', 'jobsync._cluster.settings')
"""Modules that others import within functions."""
_LEFT_ALONE = ('jobsync.testing.', 'jobsync.cli.', 'jobsync.aio.', 'jobsync.web.')


class _OneInEach:
    """An object of which each process has one."""

    def __init__(self, host: VirtualHost, make: Callable[[], object]) -> None:
        self._host, self._make = host, make

    def __getattr__(self, name: str) -> Any:
        things = self._host.process.things
        if self not in things:
            things[self] = self._make()
        return getattr(things[self], name)


@contextmanager
def replaced(host: VirtualHost) -> Iterator[VirtualSignals]:
    """Run jobsync's threads, clocks, queues and signals on the host, within the block; yields what sends signals.

    No job of this process may be in use that does not run on the host.
    """
    for name in _ALSO:
        importlib.import_module(name)
    virtual_signals = VirtualSignals(host)
    by_identity: dict[int, Any] = {
        id(threading): _threading(host),
        id(time): _time(host),
        id(time.sleep): host.sleep,
        id(time.monotonic): host.read_clock,
        id(_threads.start): _start,
        id(queue.SimpleQueue): partial(VirtualQueue, host),
        id(clock.now): host.read_clock,
        id(signal): virtual_signals,
        id(node._new_id): lambda: f'{host.random.getrandbits(64):016x}',
        id(store_calls._CallDepth): partial(VirtualLocal, host, depth=0),
        id(store_calls._here): _ThreadNumber(host),
        id(threads.duty): VirtualLocal(host, serves_a_node=False),
        id(_event_log.event_log): _OneInEach(host, _event_log.EventLog),
        id(signals._process): _OneInEach(host, signals._Process),
    }
    before: list[tuple[dict[str, Any], str, Any]] = [(vars(signals), 'os', os), (vars(startup), 'os', os)]
    for name, module in list(sys.modules.items()):
        if name.startswith('jobsync.') and not name.startswith(_LEFT_ALONE):
            names = vars(module)
            before += [(names, key, value) for key, value in names.items() if id(value) in by_identity]
    try:
        for names, key, value in before:
            names[key] = virtual_signals if value is os else by_identity[id(value)]
        yield virtual_signals
    finally:
        for names, key, value in before:
            names[key] = value


class _ThreadNumber:
    """The number of the present thread: here no ident is given twice."""

    def __init__(self, host: VirtualHost) -> None:
        self._host = host

    @property
    def number(self) -> int:
        """The ident of the thread."""
        return 0 if self._host.thread is None else self._host.thread.ident


def _start(make: Callable[[], VirtualThread], within_sec: float = 0.0) -> bool:
    """Start a thread where it is made: no handler of a signal runs in the midst of that here."""
    make().start()
    return True


class _Module(SimpleNamespace):
    """A module with other values for some of its names."""

    def __init__(self, module: ModuleType, **others: object) -> None:
        super().__init__(**others)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _time(host: VirtualHost) -> Any:
    """Return what stands for the module ``time``."""
    return _Module(
        time,
        monotonic=host.read_clock,
        time=lambda: _EPOCH + host.read_clock(),
        time_ns=lambda: int((_EPOCH + host.read_clock()) * 1e9),
        sleep=host.sleep,
    )


def _threading(host: VirtualHost) -> Any:
    """Return what stands for the module ``threading``."""
    return _Module(
        threading,
        Thread=partial(VirtualThread, host),
        Timer=partial(VirtualTimer, host),
        Lock=partial(VirtualLock, host),
        RLock=partial(VirtualLock, host),
        Event=partial(VirtualEvent, host),
        Condition=partial(VirtualCondition, host),
        get_ident=lambda: 0 if host.thread is None else host.thread.ident,
        current_thread=lambda: host.thread or host.outside_thread,
        main_thread=lambda: host.process.main,
    )
