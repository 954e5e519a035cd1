"""What operators have done to a cluster: who, when, to what and why.

An action is recorded as an item of a group that only this module reads. Every store keeps items, with who made them, and when by
its own clock. Each new record removes those that are over, so they do not pile up.
"""

from __future__ import annotations

import datetime as dt
import getpass
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from jobsync._core.records import ACTIONS, LockEdit, LockFilter, LockRequest, TaskLock
from jobsync._host import host_name
from jobsync._random import RANDOM
from jobsync._runtime.leader_record import LEADER
from jobsync.backend import Backend
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.rows import EventRow

__all__ = ['actions', 'attempt', 'people', 'read_first', 'reason_of', 'record', 'trim', 'user_at_host']

T = TypeVar('T')

_UNCERTAIN = (BackendUnavailable, KeyboardInterrupt)
"""After these errors of a call the store may have carried it out, or do so later."""

_KEPT = dt.timedelta(days=365)
_MOST = 2000
"""About how many actions are kept. Each reading of the task locks has these too, also that of a leader: 50,000 take seconds."""
_TRIMMED_SHARE = 0.01
"""In so many of all cases a record is followed by a reading of all of them, to remove those beyond ``_MOST``."""
_REMOVED = 1000
"""The most actions that are removed at once."""
_MOST_SUBJECTS = 100
"""How many names of nodes or ids of tasks are kept of an action."""


def user_at_host() -> str:
    """Return who runs this process: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return f'{user}@{host_name()}'.encode(errors='replace').decode()  # the user may have any name


# Of an action whose store does not answer, the error says one of three: it was not carried out (``read_first``), it may have been
# (``attempt``), or it was and may be missing in the history (``record``). Commands, the page and its log have it from there.


def read_first(action: str, read: Callable[[], T]) -> T:
    """Return what is read before an action. The error of a store that does not answer says that nothing was done.

    Each action begins so, also one that needs no reading: most often a store that does not answer has been away for a while,
    and of the call that changes something no error could say that.
    """
    try:
        return read()
    except BackendUnavailable as error:
        error.args = (f'{action} was not carried out: {error}',)
        raise


@contextmanager
def attempt(action: str) -> Iterator[None]:
    """Have the error of a store that does not answer, or Ctrl-C, say that the action may have been carried out.

    A call is not undone then.
    """
    try:
        yield
    except _UNCERTAIN as error:
        error.args = (f'{action} may have been carried out, so see whether it was before you repeat it: {reason_of(error)}',)
        raise


def reason_of(error: BaseException) -> str:
    """Return the message of an error; of Ctrl-C, which has none, words for it."""
    return str(error) or 'it was interrupted'


def record(
    backend: Backend,
    actor: str,
    action: str,
    subjects: Collection[str],
    reason: str | None,
    call: Callable[[Callable[[], object]], object] = lambda write: write(),
) -> None:
    """Record that an action, given by a word, was carried out, at the store's time.

    ``subjects`` are names of nodes or ids of tasks. ``call`` makes the call of the store.
    """
    patterns = (action, *list(subjects)[:_MOST_SUBJECTS])
    request = LockRequest(uuid.uuid4().hex, patterns, actor, reason or None, _KEPT)
    edit = LockEdit(LockFilter(expired=True), (request,), ACTIONS)
    # What was done cannot be recorded in the same call, as a backend's methods change one kind of record each. And recorded
    # before, it would be in the history though the call that does it may fail.
    try:
        call(lambda: backend.edit_locks(edit))
    except (JobsyncError, KeyboardInterrupt) as error:
        done = f'{action} ({reason})' if reason else action
        missing = 'may be missing' if isinstance(error, _UNCERTAIN) else 'is missing'
        error.args = (f'{done} was carried out, and {missing} in the history, since recording it failed: {reason_of(error)}',)
        raise
    if RANDOM.random() < _TRIMMED_SHARE:
        with suppress(JobsyncError):  # the action is recorded, and a later record tries again
            call(lambda: trim(backend))


def trim(backend: Backend) -> None:
    """Remove the oldest actions beyond ``_MOST``, but not the last lock of each actor who has locks (see ``people``)."""
    locks = backend.read_locks().locks
    found = [lock for lock in locks if lock.group == ACTIONS and lock.patterns[:1] != (LEADER,)]
    creators = {lock.created_by for lock in locks if lock.group != ACTIONS}
    kept = {lock.created_by: lock.task_id for lock in found if lock.patterns[:1] == ('lock',) and lock.created_by in creators}
    outdated = [lock.task_id for lock in found[:-_MOST] if lock.task_id != kept.get(lock.created_by)][:_REMOVED]
    if outdated:
        backend.edit_locks(LockEdit(LockFilter(task_ids=frozenset(outdated)), group=ACTIONS))


def people(locks: Iterable[TaskLock]) -> frozenset[str]:
    """Return the creators of task locks that are no nodes: each user@host, and each actor that has added one from outside."""
    return frozenset(
        lock.created_by for lock in locks if '@' in lock.created_by or (lock.group == ACTIONS and lock.patterns[:1] == ('lock',))
    )


def actions(locks: Iterable[TaskLock], subject: str | None = None) -> Iterator[EventRow]:
    """Yield the recorded actions, oldest first: all, or those on one node or task."""
    for lock in locks:
        if lock.group == ACTIONS and (subject is None or subject in lock.patterns[1:]):
            action, *subjects = lock.patterns
            words = [', '.join(subjects)] if subjects else []
            words += [lock.reason] if lock.reason else []
            yield {'at': lock.created_at, 'event': action, 'by': lock.created_by, 'details': ': '.join(words)}
