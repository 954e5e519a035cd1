"""Threads, locks and queues on a virtual host: what jobsync uses of ``threading`` and ``queue``, with the same meaning.

No operation here switches to another thread after it has changed something, except by waiting. So each is one step, and may be
interrupted before it, as an operation of the interpreter may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from queue import Empty
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, greenlet

if TYPE_CHECKING:
    from tests.scheduled.virtual.host import VirtualHost
    from tests.scheduled.virtual.process import VirtualProcess

__all__ = ['VirtualCondition', 'VirtualEvent', 'VirtualLock', 'VirtualQueue', 'VirtualThread', 'VirtualTimer', 'Waiting']

Waiting = deque['VirtualThread']


class VirtualThread:
    """``threading.Thread``: a greenlet that the host resumes."""

    def __init__(
        self,
        host: VirtualHost,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        process: VirtualProcess | None = None,
    ) -> None:
        self._host, self._target, self._args, self._kwargs = host, target, tuple(args), dict(kwargs or {})
        self.process = host.process if process is None else process
        self.ident = host.next_number()
        self.name, self.daemon = name or f'thread-{self.ident}', daemon
        self.greenlet = greenlet(self._run, host.hub)
        self.is_woken = False
        self.waits = 0
        """The number of this thread's waits: a timer of an earlier wait does not end a later one."""
        self._state = 'new'
        self._joining: Waiting = deque()

    def __repr__(self) -> str:
        return f'{self.process.name}/{self.name}'

    def start(self) -> None:
        """Make the thread ready to run."""
        if self._state != 'new':
            raise RuntimeError('threads can only be started once')
        self._state = 'started'
        self._host.add(self)

    def run(self) -> None:
        """Call the target."""
        if self._target is not None:
            self._target(*self._args, **self._kwargs)

    def _run(self) -> None:
        try:
            self.run()
        except GreenletExit:
            pass
        except BaseException as error:  # noqa: BLE001 - as in a thread, nothing above this could handle it
            self._host.errors.append((self, error))
        finally:
            self._state = 'over'
            self._host.wake(self._joining)

    def forget(self) -> None:
        """Refer to nothing that the thread ran, now that it has ended."""
        self._target, self._args, self._kwargs = None, (), {}
        self.process.main = None
        self.process.things.clear()

    def is_alive(self) -> bool:
        """Return whether the thread has started and not ended."""
        return self._state == 'started'

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended."""
        self._host.wait_for(lambda: not self.is_alive(), self._joining, timeout)


class VirtualTimer(VirtualThread):
    """``threading.Timer``."""

    def __init__(self, host: VirtualHost, interval: float, function: Callable[..., object], args: Iterable[Any] = ()) -> None:
        super().__init__(host, target=function, name=f'timer-{getattr(function, "__name__", "")}', args=args)
        self._interval, self._finished = interval, VirtualEvent(host)

    def cancel(self) -> None:
        """Have the function not called, if it was not called yet."""
        self._finished.set()

    def run(self) -> None:
        """Wait, then call the function."""
        self._finished.wait(self._interval)
        if not self._finished.is_set():
            super().run()
        self._finished.set()


class VirtualLock:
    """``threading.Lock``, and ``RLock`` where no thread acquires it twice."""

    def __init__(self, host: VirtualHost) -> None:
        self._host = host
        self._is_locked = False
        self._waiting: Waiting = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock; return whether this thread has it."""
        self._host.step()
        if not blocking:
            timeout = 0
        is_free = self._host.wait_for(lambda: not self._is_locked, self._waiting, None if timeout < 0 else timeout)
        self._is_locked = self._is_locked or is_free
        return is_free

    def release(self) -> None:
        """Release the lock."""
        if not self._is_locked:
            raise RuntimeError('release unlocked lock')
        self._is_locked = False
        self._host.wake(self._waiting)

    def locked(self) -> bool:
        """Return whether a thread has the lock."""
        self._host.step()
        return self._is_locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class VirtualEvent:
    """``threading.Event``."""

    def __init__(self, host: VirtualHost) -> None:
        self._host, self._flag = host, False
        self._waiting: Waiting = deque()

    def is_set(self) -> bool:
        """Return whether the event is set."""
        return self._flag

    def set(self) -> None:
        """Set the event."""
        self._flag = True
        self._host.wake(self._waiting)

    def clear(self) -> None:
        """Clear the event."""
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set; return whether it is."""
        self._host.step()
        return self._host.wait_for(lambda: self._flag, self._waiting, timeout)


class VirtualCondition:
    """``threading.Condition``, on a lock that is not reentrant."""

    def __init__(self, host: VirtualHost, lock: VirtualLock | None = None) -> None:
        self._host, self._lock = host, lock or VirtualLock(host)
        self._notified: Waiting = deque()

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until the predicate is true; return what it is."""
        until = float('inf') if timeout is None else self._host.now + timeout / self._host.process.rate
        while not (result := predicate()) and (left := until - self._host.now) > 0:
            self._lock.release()
            try:
                self._host.wait(self._notified, None if timeout is None else left * self._host.process.rate)
            finally:
                self._lock.acquire()
        return result

    def notify_all(self) -> None:
        """Wake every thread that waits."""
        self._host.wake(self._notified)


class VirtualQueue:
    """``queue.SimpleQueue``: ``put`` never waits."""

    def __init__(self, host: VirtualHost) -> None:
        self._host = host
        self._things: deque[Any] = deque()
        self._waiting: Waiting = deque()

    def put(self, thing: Any) -> None:
        """Add a thing."""
        self._things.append(thing)
        self._host.wake(self._waiting)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first thing; raise ``Empty`` if there is none in time."""
        self._host.step()
        if not self._host.wait_for(lambda: bool(self._things), self._waiting, timeout if block else 0):
            raise Empty
        return self._things.popleft()

    def get_nowait(self) -> Any:
        """Take the first thing; raise ``Empty`` if there is none."""
        return self.get(block=False)

    def qsize(self) -> int:
        """Return how many things there are."""
        self._host.step()
        return len(self._things)

    def empty(self) -> bool:
        """Return whether there is nothing."""
        return self.qsize() == 0


class VirtualLocal:
    """``threading.local`` with values that begin as the attributes of the class."""

    def __init__(self, host: VirtualHost, **first: object) -> None:
        self.__dict__['_parts'] = (host, first, {})

    def _values(self) -> dict[str, object]:
        host, first, values = self.__dict__['_parts']
        found: dict[str, object] = values.setdefault(host.thread, dict(first))
        return found

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self._values()[name] = value
