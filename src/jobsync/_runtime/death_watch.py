"""A thread that knows at once when another process of this host has ended (see ``host_lock`` for how that is proven).

Each node watches the next ``WATCHED`` members after its own name that have a file on this host, in the order of their names, as
on a ring. So each process is watched by two others, and none watches more than two, however many there are. When one is over, its
watchers move on at once to the next, which may be over as well: several processes that are killed together are found one after
the other without any waiting.

A descriptor of the process (pidfd) wakes the thread; the lock alone is the proof. Where a descriptor is of no use,
because the process is in another pid namespace or lives on as another program after ``exec``, the lock is tried now and then.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import threading
import time
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from jobsync._core.records import Member, NodeRef
from jobsync._event_log import EventLogger
from jobsync._runtime.host_lock import HeldLock, HostFolder, LockFinding, LockVerdict, NotKnown

__all__ = ['WATCHED', 'DeathWatch']

_logger = EventLogger('jobsync.node')
WATCHED = 2
"""How many others each node watches. With one, a process would go unseen that is killed together with its only watcher, until the
watcher's own watcher has moved on."""
_SOON_SEC = 0.02
"""How often the lock is tried after the bell has rung: the kernel may still be taking the process apart."""
_RUNG_SEC = 2.0
"""For how long that goes on."""
_TRY_SEC = 1.0
"""How often the lock of a process without a bell is tried."""
_TEND_SEC = 5.0
"""How often every lock is tried, and this process's own file is checked."""
_PAGE = 4096
"""How much of what has rung the alarm is read at once."""
_MOST_FILES = 100
"""How many files are made for one incarnation. Each that has gone costs a mapping, of which a process may have 65,530."""


@attrs.frozen
class _Descriptor:
    """A descriptor of this module's own. A program may close every one, and open its own files under their numbers."""

    number: int
    _file: Path = attrs.field(init=False)

    @_file.default
    def _read_file(self) -> Path:
        return Path(f'/proc/self/fd/{self.number}').readlink()

    @property
    def is_own(self) -> bool:
        """Whether it is still open, and not one of the program's."""
        try:
            return self._read_file() == self._file
        except OSError:
            return False

    def close(self) -> None:
        """Close it, if it is still to be closed."""
        if self.is_own:
            os.close(self.number)


@attrs.define
class _Watched:
    """A process that holds its lock."""

    ref: NodeRef
    bell: _Descriptor | None
    rung_at: float = -math.inf

    def close(self) -> None:
        """Close the bell."""
        bell, self.bell = self.bell, None
        if bell is not None:
            bell.close()


class DeathWatch:
    """The lock of this node's incarnation, and the thread that watches those of others.

    Args:
        node_name: the name of this node.
        base: the folder for the folder of locks; None: see ``HostFolder``.
        report: called with a run that is over, in the thread, once for each.
    """

    def __init__(
        self,
        node_name: str,
        base: str | None,
        report: Callable[[NodeRef], object],
    ) -> None:
        self._name, self._report = node_name, report
        self._members: Mapping[str, Member] = {}
        """The members of the assignment that this node has applied."""
        self._folder: HostFolder | None = None
        self.why_not: str | None = 'the node has not registered yet'
        """Why the end of this process would not be known at once; None if the lock that proves it is held."""
        try:
            self._folder = HostFolder(base)
        except NotKnown as reason:
            self._set_why_not(str(reason))
        self.watched_names: tuple[str, ...] = ()
        """The nodes whose end this process would know at once."""
        self._incarnation = ''
        self._held: list[HeldLock] = []
        """The lock of the incarnation; several if its file had to be made again. None may be released while it lives: an observer
        may still find the first file, if the folder was only moved."""
        self._lock = threading.Lock()
        """Guards ``_held`` and ``_incarnation``."""
        self._watched: dict[NodeRef, _Watched] = {}
        self._over: set[NodeRef] = set()
        """The members whose end was reported."""
        self._known: Mapping[str, Member] | None = None
        self._closed = False
        self._tend_at = time.monotonic() + _TEND_SEC
        self._alarm: tuple[_Descriptor, _Descriptor] | None = None
        """What wakes the thread: it reads from the first, others write to the second."""
        self._alarm_lock = threading.Lock()
        """Guards ``_alarm``, and is held for no longer than system calls that never block: the threads of the node take it."""

    def start(self, start_thread: Callable[[str, Callable[[], bool]], object]) -> None:
        """Start the thread, if there is anything to watch for. ``start_thread`` is that of ``NodeRuntime``."""
        if self._folder is not None:
            try:
                self._alarm = _new_alarm()
            except OSError as error:  # too many open files at this moment, say: no reason not to work
                self._folder = None
                self._set_why_not(f'its thread cannot be woken ({error.strerror})')
                return
            try:
                start_thread('deaths', self._step)
            except BaseException:  # no thread will ever close it
                self._end()
                raise

    def hold(self, incarnation: str) -> None:
        """Hold the lock of this incarnation from now on, before it registers, and no longer that of the one before."""
        with self._lock:
            if self._folder is None or self._closed or self._incarnation == incarnation:
                return
            before, self._held, self._incarnation = self._held, [], incarnation
            self._take()
        for lock in before:
            lock.release()

    def _take(self) -> None:
        """Take the lock of the incarnation. Without it nothing is known of this process, and its timeout applies."""
        assert self._folder is not None
        if len(self._held) == _MOST_FILES:
            self._set_why_not(f'its file in {self._folder.path} has gone {_MOST_FILES} times')
            return
        try:
            self._held.append(self._folder.hold(self._incarnation))
        except NotKnown as reason:
            self._set_why_not(str(reason))
        else:
            self._set_why_not(None)

    def _set_why_not(self, why_not: str | None) -> None:
        if why_not is not None and why_not != self.why_not:
            _logger.info('node %r: if this process is killed, its tokens wait for its timeout: %s', self._name, why_not)
        self.why_not = why_not

    def is_over(self, ref: NodeRef) -> bool:
        """Return whether this host proves that a run is over."""
        return self._folder is not None and self._folder.examine(ref.incarnation).verdict is LockVerdict.OVER

    def made_known(self, ref: NodeRef) -> None:
        """Delete the file of a run that is over, since the store says so now."""
        if self._folder is not None:
            self._folder.discard(ref.incarnation)

    def take_members(self, members: Mapping[str, Member]) -> None:
        """Take the members of the assignment, some of which are to be watched."""
        if members is not self._members:
            self._members = members
            self._wake()

    def _wake(self) -> None:
        with self._alarm_lock:
            if self._alarm is not None and _are_own(self._alarm):
                with contextlib.suppress(OSError):  # it has not been read since
                    os.write(self._alarm[1].number, b'!')

    def close(self, has_left: bool) -> None:
        """End the thread. Release the lock if the node has left; otherwise it is held until the process ends."""
        self._closed = True
        self._wake()
        with self._lock:
            held, self._held = (self._held, []) if has_left else ([], self._held)
        for lock in held:
            lock.release()

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Do what is due, then sleep; return False once this is closed."""
        if self._closed:
            self._end()
            return False
        if is_due := time.monotonic() >= self._tend_at:
            self._tend_at = time.monotonic() + _TEND_SEC
            self._tend()
        self._examine_watched(everything=is_due)
        self._fill_up()
        self._sleep(self._tend_at)
        return True

    def _end(self) -> None:
        for watched in self._watched.values():
            watched.close()
        with self._alarm_lock:
            if self._alarm is not None:
                for end in self._alarm:
                    end.close()
            self._alarm = None

    def _sleep(self, until: float) -> None:
        """Wait until a bell rings, new members come, or a lock is to be tried."""
        now, poll = time.monotonic(), select.poll()
        alarm = self._sound_alarm()
        poll.register(alarm.number, select.POLLIN)
        for watched in self._watched.values():
            if watched.bell is not None:
                poll.register(watched.bell.number, select.POLLIN)
            else:
                until = min(until, now + (_SOON_SEC if now < watched.rung_at + _RUNG_SEC else _TRY_SEC))
        rung = {descriptor for descriptor, _ in poll.poll(max(0.0, 1000 * (until - now)))}
        if alarm.number in rung and alarm.is_own:
            os.read(alarm.number, _PAGE)
        for watched in self._watched.values():
            if watched.bell is not None and watched.bell.number in rung:
                watched.close()
                watched.rung_at = time.monotonic()

    def _sound_alarm(self) -> _Descriptor:
        """Return what the thread reads from; take another alarm first if the program has closed an end of it."""
        assert self._alarm is not None
        if not _are_own(self._alarm):
            another = _new_alarm()
            with self._alarm_lock:
                before, self._alarm = self._alarm, another
            for end in before:
                end.close()
        return self._alarm[0]

    def _tend(self) -> None:
        """Make this process's own file again if it has gone, and look again for files that were not there."""
        self._known = None
        with self._lock:
            if self._incarnation and not self._closed and not (self._held and self._held[-1].is_in_place):
                self._take()

    def _examine_watched(self, everything: bool) -> None:
        """Try the locks of those without a bell, or of all; report those that are over, and drop those of no more use."""
        for watched in list(self._watched.values()):
            if watched.bell is None or everything:
                self._take_finding(watched.ref, self._examine(watched.ref))

    def _examine(self, ref: NodeRef) -> LockFinding:
        assert self._folder is not None
        return self._folder.examine(ref.incarnation)

    def _take_finding(self, ref: NodeRef, finding: LockFinding) -> None:
        if finding.verdict is LockVerdict.HELD:
            return
        if (watched := self._watched.pop(ref, None)) is not None:
            watched.close()
            self._known = None
        if finding.verdict is LockVerdict.OVER:
            self._report(ref)
            self._over.add(ref)  # last: what is in this set is not reported again

    def _fill_up(self) -> None:
        """Watch the next members after this node's name that are on this host, if the members have changed."""
        members = self._members
        if members is self._known:
            return
        self._known = members
        assert self._folder is not None
        # A program that crashes again and again leaves a run each time, for months.
        self._over = {ref for ref in self._over if ref.name in members and members[ref.name].incarnation == ref.incarnation}
        wanted, here = list[NodeRef](), self._folder.incarnations()
        for ref in _successors(self._name, members):
            if len(wanted) == WATCHED:
                break
            if ref in self._over or ref.incarnation not in here:
                continue
            if ref in self._watched or self._begin(ref):
                wanted.append(ref)
        for ref in self._watched.keys() - set(wanted):
            self._watched.pop(ref).close()
        self.watched_names = tuple(ref.name for ref in wanted)

    def _begin(self, ref: NodeRef) -> bool:
        """Watch a run; return False if it is over, or not on this host."""
        finding = self._examine(ref)
        bell = None
        if finding.pid is not None:
            # t=0  the lock is held, and its file has the id of its process
            # t=1  that process ends, and another one is given its id
            # t=2  the bell is that of the other process
            # So the lock is tried once more: if it is held still, the process that the bell belongs to was its holder at t=2.
            try:
                bell = _Descriptor(os.pidfd_open(finding.pid))
            except (OSError, OverflowError):
                bell = None  # it has just ended, there are too many open files, or the file was edited
            finding = self._examine(ref)
        if finding.verdict is LockVerdict.HELD:
            self._watched[ref] = _Watched(ref, bell)
            return True
        if bell is not None:
            bell.close()
        self._take_finding(ref, finding)
        return False


def _new_alarm() -> tuple[_Descriptor, _Descriptor]:
    reading, writing = socket.socketpair()
    for end in (reading, writing):
        end.setblocking(False)
    return _Descriptor(reading.detach()), _Descriptor(writing.detach())


def _are_own(alarm: tuple[_Descriptor, _Descriptor]) -> bool:
    return all(end.is_own for end in alarm)


def _successors(name: str, members: Mapping[str, Member]) -> Iterator[NodeRef]:
    """Return the other members in the order of their names, beginning after ``name``."""
    names = sorted(members.keys() - {name})
    first = bisect(names, name)
    for each in (*names[first:], *names[:first]):
        yield NodeRef(each, members[each].incarnation)
