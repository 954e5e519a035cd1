"""The pauses and the thread-safety of a listener, on a connection that is none."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.job.waiting import wait_until
from tests.support.timings import DEADLINE_SEC

from jobsync.backend import Hint
from jobsync.backends._common import listening
from jobsync.backends._common.backoff import FIRST_SEC, LONGEST_SEC, Backoff
from jobsync.backends._common.concerned import MOST_NAMES, Concerned
from jobsync.backends._common.listening import Listener


def test_the_nodes_of_a_cluster_try_again_at_different_times() -> None:
    """The pauses grow, are of random lengths, and are short again once the server has answered."""
    backoffs = [Backoff() for _ in range(100)]
    first, *_, last = [[backoff.next_sec() for backoff in backoffs] for _ in range(8)]
    for pauses, longest in ((first, FIRST_SEC), (last, LONGEST_SEC)):
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(set(pauses)) == len(pauses)
    for backoff in backoffs:
        backoff.reset()
    assert all(backoff.next_sec() <= FIRST_SEC for backoff in backoffs)


class SilentListener(Listener):
    """Finds revision 1, and hears nothing."""

    losses = ()
    is_connected = False

    def _open(self, within_sec: float) -> None:
        self.is_connected = True

    def _read_revision(self) -> int:
        return 1

    def _descriptor(self) -> None:
        return None

    def _receive(self) -> None:
        raise AssertionError

    def _disconnect(self) -> None:
        self.is_connected = False


class LockOfListener:
    """A lock, just before whose first release the listener is closed."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self._lock = listener, threading.Lock()
        self.acquire = self._lock.acquire

    def release(self) -> None:
        """Release the lock."""
        if not self._listener._closed:
            self._listener.close()
        self._lock.release()


def test_closed_while_a_wait_ends() -> None:
    """The connection is closed by one of the two threads, at whichever step of the wait."""
    listener = SilentListener()
    listener._lock = LockOfListener(listener)  # type: ignore[assignment]
    assert listener.wait(0, 1.0) == 1
    assert not listener.is_connected


class AnnouncedListener(SilentListener):
    """Would be announced to, and finds revision 1."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = os.pipe()
        self.connections = 0

    def _open(self, within_sec: float) -> None:
        self.connections += 1

    def _descriptor(self) -> int:  # type: ignore[override]
        return self.ends[0]

    def _receive(self) -> None:
        pass

    def close(self) -> None:
        """Close the pipe too."""
        super().close()
        for end in self.ends:
            os.close(end)


def test_a_poll_where_the_caller_knows_of_more_than_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is announced, as behind a pooler, the listener connects anew as well."""
    monkeypatch.setattr(listening, 'POLL_SEC', 0.0)
    with closing(SilentListener()) as listener:
        connections = list[None]()
        monkeypatch.setattr(listener, '_open', lambda _: connections.append(None))
        for _ in range(3):
            listener.wait(1, 0.001)
        assert len(connections) == 1
        for _ in range(100):
            listener.wait(2, 0.001)
        assert len(connections) > 1


def test_the_caller_knows_of_more_than_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a switchover, where the former primary runs on: nothing changes there any more. The listener connects anew."""
    monkeypatch.setattr(listening, 'SILENT_SEC', 0.0)
    with closing(AnnouncedListener()) as listener:
        for _ in range(3):
            listener.wait(1, 0.001)
        assert listener.connections == 1
        for _ in range(100):
            listener.wait(2, 0.001)
        assert listener.connections > 1


class NotifiedListener(AnnouncedListener):
    """Is announced to, and finds the revision that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.revision = 1
        self.announcements = list[str]()
        os.write(self.ends[1], b'x')  # never read: there is always something to receive

    def _read_revision(self) -> int:
        return self.revision

    def _receive(self) -> None:
        self._received += self.announcements
        self.announcements.clear()

    def notified(self, revision: int, *announcements: str, since: int) -> Hint:
        """Return the answer of a wait during which these announcements come."""
        self.revision = revision
        self.announcements += announcements
        found = self.wait(since, 0.02)
        assert isinstance(found, Hint)
        return found


def test_a_thread_that_knows_less_waits_for_no_other() -> None:
    """A thread that waits on the connection knows more, or waits again at once: what it has read is there for others."""
    with ThreadPoolExecutor(1) as threads, closing(NotifiedListener()) as listener:
        listener.revision = 2
        other = threads.submit(listener.wait, 9, DEADLINE_SEC)
        wait_until(lambda: listener._is_open, 'the other thread waits on the connection')
        assert listener.wait(1, DEADLINE_SEC) == 2
        listener.revision = 3
        listener.announcements.append('3 ["a"]')
        assert listener.wait(2, DEADLINE_SEC) == Hint(3, frozenset({'a'}))
        assert listener.wait(3, 0.0) == 3
        assert not other.done()


def test_closed_while_a_thread_connects_and_another_waits_for_it() -> None:
    """The other one returns at once, however long connecting takes."""
    connects, goes_on = threading.Event(), threading.Event()

    class Slow(NotifiedListener):
        def _open(self, within_sec: float) -> None:
            connects.set()
            goes_on.wait(DEADLINE_SEC)

    with ThreadPoolExecutor(2) as threads, closing(Slow()) as listener:
        threads.submit(listener.wait, 1, DEADLINE_SEC)
        assert connects.wait(DEADLINE_SEC)
        other = threads.submit(listener.wait, 1, DEADLINE_SEC)
        wait_until(lambda: listener._bells, 'the other thread waits')
        Listener.close(listener)
        try:
            assert other.result(DEADLINE_SEC / 2) == 1
        finally:
            goes_on.set()


def test_an_announcement_is_lost() -> None:
    """What an announcement says does not count for the revisions before it that were not announced: they may concern all."""
    with closing(NotifiedListener()) as listener:
        listener.wait(0, 1.0)
        assert listener.notified(2, '2 ["a"]', since=1).nodes == frozenset({'a'})
        assert listener.notified(4, '4 ["a"]', since=2).nodes is None
        listener._drop()  # so the revision is read when the listener has connected anew
        assert listener.notified(5, since=4).nodes is None


def test_an_announcement_that_is_not_true() -> None:
    """A number beyond the revision, which any client may announce, hides no later one, and one that is lower counts."""
    with closing(NotifiedListener()) as listener:
        listener.wait(0, 1.0)
        assert listener.notified(2, '9 []', '2 []', since=1) == 2
        assert listener.notified(3, '3 ["a"]', since=2) == 3
        assert listener.notified(2, '2 []', since=3) == 2, 'a backup was put back'
        assert listener.notified(2, since=2) == 2


def test_more_names_than_are_remembered() -> None:
    """Once more nodes were named than are remembered, the changes since then may concern every node."""
    concerned = Concerned()
    concerned.note(1, map(str, range(MOST_NAMES + 1)))
    concerned.note(2, ['a'])
    assert concerned.hint(2, 0).nodes is None
    concerned.note(3, ['b'])
    assert concerned.hint(3, 2).nodes == frozenset({'b'})
