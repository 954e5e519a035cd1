"""The record of who has led: nothing waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.job.stores import Store, kinds
from tests.job.waiting import wait_until

from jobsync import plugins
from jobsync._core.records import ACTIONS
from jobsync._event_log import event_log
from jobsync._runtime import node, threads
from jobsync._runtime.leader_record import leader_changes, record_leader
from jobsync._worker.session import Session
from jobsync.backend import BackendOptions, LockEdit, LockRequest
from jobsync.testing import FaultyBackend


class SlowToRecord(FaultyBackend):
    """A backend that edits no locks before it is told to, as behind an operator's lock on the table of task locks."""

    def __init__(self, url: str) -> None:
        super().__init__(plugins.connect(url, BackendOptions()))
        self.is_awaited, self.may_edit = threading.Event(), threading.Event()

    def edit_locks(self, edit: LockEdit) -> int:
        """See ``Backend.edit_locks``."""
        self.is_awaited.set()
        self.may_edit.wait(120)
        return self.inner.edit_locks(edit)


@pytest.mark.any_store
def test_a_leader_gives_tokens_out_while_its_record_waits(store: Store) -> None:
    """The tokens of the leader before it have no owner until its first commit."""
    backend = SlowToRecord(store.url)
    with store.job('a', config={'backend': backend}) as job:
        assert backend.is_awaited.wait(60)
        assert job.my_tokens
        assert not leader_changes(backend.read_locks().locks)
        backend.may_edit.set()
        wait_until(lambda: [row['leader'] for row in leader_changes(backend.read_locks().locks)] == ['a'], 'the record')
    backend.inner.close()


@pytest.mark.any_store
def test_a_leader_leads_without_a_thread_for_its_record(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the process can start none then, the record is missing, and nothing else."""
    start = threads.start

    def refuse(node_name: str, what: str, target: Callable[[], object]) -> threads.Running:
        if what == 'record':
            raise RuntimeError("can't start new thread")
        return start(node_name, what, target)

    monkeypatch.setattr(threads, 'start', refuse)
    with store.job('a') as job:
        assert job.am_i_leader()
        assert job.my_tokens
    assert event_log.flush(60)
    assert "epoch 1 has no record of its leader: can't start new thread" in caplog.text
    assert not leader_changes(store.handle.read_locks().locks)


@pytest.mark.parametrize('store', kinds(['sqlite']), indirect=True)
def test_a_leader_that_leaves_at_once_is_recorded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the workers of a cluster are stopped one after the other: the backend is closed once the record is made."""
    monkeypatch.setattr(node, '_ENDING_SEC', 600.0)
    has_left, closes = threading.Event(), threading.Event()

    def record_late(*arguments: Any) -> None:
        assert has_left.wait(600)
        closes.wait(0.5)  # which it should not, while this call is due
        record_leader(*arguments)

    def wait_until_passed_on(*_: object) -> None:
        has_left.set()

    def close(session: Session) -> None:
        closes.set()
        close_at_last(session)

    close_at_last = Session._close
    monkeypatch.setattr(node, 'record_leader', record_late)
    monkeypatch.setattr(Session, '_wait_until_passed_on', wait_until_passed_on)
    monkeypatch.setattr(Session, '_close', close)
    with store.job('a') as job:
        assert job.my_tokens
    wait_until(lambda: not any(thread.name == 'jobsync-record-a' for thread in threading.enumerate()), 'the thread has ended')
    assert [row['leader'] for row in leader_changes(store.handle.read_locks().locks)] == ['a']


@pytest.mark.any_store
def test_a_record_with_an_id_of_its_own_is_left_out(store: Store) -> None:
    """An operator has given it that manually, and the status of the cluster goes without it."""
    with store.job('a'):
        wait_until(lambda: leader_changes(store.handle.read_locks().locks), 'the record')
        for record_id in ('leader', 'leader of old', 'another 7'):
            store.handle.edit_locks(LockEdit(put=(LockRequest(record_id, ('leader',), 'a'),), group=ACTIONS))
        assert [row['leader'] for row in leader_changes(store.handle.read_locks().locks)] == ['a']
