"""The Backend protocol and its records: all that a backend imports of jobsync, besides ``jobsync.errors`` and the hook.

A store keeps the records of *namespaces*. A namespace is a prefix (``appname``); two namespaces never see each other's records,
even if one prefix begins with the other. A backend decides nothing. It offers two atomic shapes: write one record if the record
it replaces is as expected, and write many records if the timeline, the epoch and the assignment's
version are as expected. It needs no
expiring keys, no locks that it hands out, and no trusted clock.

**Every method**

- is atomic: a concurrent caller sees all of its effects or none, and a reading never mixes two states (``purge`` is atomic for
  each record, and ``heartbeat`` may count a little later than it reads);
- is synchronous, and may be called from any thread;
- ends within ``op_timeout_sec``, or within ``bulk_timeout_sec`` if it is marked *bulk*; ``wait`` has a timeout of its own;
- raises ``BackendUnavailable`` if the store did not answer. The call may have happened or not, and the caller may repeat it
  verbatim. A repeated call changes nothing that the first one did not change, except heartbeat counters and the store's times.
  It may be refused because the first one happened: ``commit`` with ``Conflict``, ``register`` with ``NameTaken``;
- raises ``SchemaMismatch`` while the namespace does not exist: never opened, or lost with all its records. The caller opens it
  again. ``open`` without ``create`` raises it too; ``close`` and ``wait`` never do;
- may raise ``ConfigError`` if the store refuses its user's credentials or rights. A node that enters gives up, a node that has
  been a member treats it as an outage;
- has changed nothing when it raises an error of ``jobsync.errors`` other than ``BackendUnavailable``;
- raises no exception of a driver: it raises one of ``jobsync.errors`` instead, with the driver's exception as ``__cause__``;
- logs, if at all, through an ``EventLogger``, because the threads that call it must not wait for a log handler.

**Text and times.** Names, ids, task ids, patterns and reasons are text of at least one character, any that UTF-8 encodes except
NUL. The store compares text exactly: case, trailing blanks and Unicode forms count. A node's name has up to 200 characters, of
up to 800 bytes. A store may refuse task ids of more than 1,800 bytes: then each call that would write one raises
``UnsupportedOperation``. Times are the store's and carry a timezone.

**Revision.** A namespace has one revision: a number and a random stamp, ``INITIAL`` at first. A structural change raises the
number by at least one and draws a new stamp. Structural changes are ``register`` and ``commit``; ``set_weight``, ``deregister``,
``remove_node``, ``acquire_leadership``, ``edit_locks`` and ``renew_timeline`` if they change anything; and ``open`` if it
replaces settings. No other method changes the revision. The assignment's **version** is the revision of the last commit or
renewal. A stamp is drawn from 1 to 2 ** 62, so it is never that of ``INITIAL``. A new namespace has generation 0,
``Leadership(0, None)`` and ``locks_revision`` 0.

**Attempts.** A run *attempts* an item at a date when it claims it with a number of tolerated attempts. The attempt is *lost* once
the run is not JOINED any more: evicted, replaced, left, or of an earlier timeline. An item has one attempt of each run, whatever
the number of claims, and none once any node has completed it, or after ``forget_attempts``.

**Unreadable records** (rule R9). Where people can edit records with other tools, a record may become unreadable. An unreadable
record never makes a reading fail. ``snapshot`` and ``read_locks`` leave it out and report it; ``history`` and ``incomplete``
leave it out. A backend may instead read a node's record with a harmless value in place of an unreadable weight (1), timeout (the
namespace's longest) or time, and must report it as well. A node whose record is left out is absent for every method: its
``heartbeat`` raises ``Evicted``, and ``register`` replaces the record. A lock that is left out is replaced by the next lock for
its task, and removed by an edit that removes the task's lock by name, or all locks.

**Manual edits.** Where people can edit records with other tools (SQL), a manual edit of token rows becomes the namespace's new
revision *and* version, and the next ``read_assignment`` with an older ``since`` is complete. A manual edit of nodes or locks
becomes the new revision. The row of a pin survives a manual deletion: the store ignores the deletion. Without the row, the task
would fall back to its hash token while the pin's owner may still be at work. A store that cannot do this says so in its
documentation.
"""

from __future__ import annotations

from jobsync._core.assignment import ABSENT, UNOWNED, Assignment, Changes, Plan, TokenGroup, TokenRow, members_after
from jobsync._core.commit_guard import check_guard, check_nodes, evicted
from jobsync._core.records import (
    INITIAL,
    NOBODY,
    Audit,
    Claim,
    Eviction,
    Guard,
    Hint,
    HistoryKind,
    Leadership,
    LockEdit,
    LockFilter,
    LockReading,
    LockRequest,
    Member,
    Node,
    NodeRef,
    NodeState,
    Opened,
    Pin,
    Pulse,
    Purged,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    TaskLock,
    Timeline,
    Unclaimed,
    Unreadable,
    lock_key,
)
from jobsync._core.redact import redact_url, safe_repr
from jobsync._core.tokens import is_run, rising
from jobsync._event_log import Diverted, EventLogger
from jobsync.backend._declarations import BackendInfo, BackendOptions, Reach, Space
from jobsync.backend._protocol import Backend

__all__ = [
    'ABSENT',
    'INITIAL',
    'NOBODY',
    'UNOWNED',
    'Assignment',
    'Audit',
    'Backend',
    'BackendInfo',
    'BackendOptions',
    'Changes',
    'Claim',
    'Diverted',
    'EventLogger',
    'Eviction',
    'Guard',
    'Hint',
    'HistoryKind',
    'Leadership',
    'LockEdit',
    'LockFilter',
    'LockReading',
    'LockRequest',
    'Member',
    'Node',
    'NodeRef',
    'NodeState',
    'Opened',
    'Pin',
    'Plan',
    'Pulse',
    'Purged',
    'Reach',
    'Rebalance',
    'Registration',
    'Revision',
    'Settings',
    'Snapshot',
    'Space',
    'TaskLock',
    'Timeline',
    'TokenGroup',
    'TokenRow',
    'Unclaimed',
    'Unreadable',
    'check_guard',
    'check_nodes',
    'evicted',
    'is_run',
    'lock_key',
    'members_after',
    'redact_url',
    'rising',
    'safe_repr',
]
