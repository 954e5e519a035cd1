"""One call of every method of the protocol, for tests of what each method does while the store or the namespace is missing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

from jobsync.backend import INITIAL, Backend, Guard, HistoryKind, LockEdit, LockRequest, NodeRef, Plan, Registration, Timeline
from jobsync.testing.conformance.namespace import DAY

__all__ = ['CALLS']

NOW = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
LOCK = LockEdit(put=(LockRequest('x', ('a',), 'me'),))

CALLS: Mapping[str, Callable[[Backend, Timeline, NodeRef], object]] = {
    'renew_timeline': lambda backend, timeline, _: backend.renew_timeline(timeline, 0),
    'register': lambda backend, timeline, _: backend.register(Registration(NodeRef('new', '1'), 15.0), timeline, 0),
    'heartbeat': lambda backend, _, ref: backend.heartbeat(ref, INITIAL, frozenset()),
    'set_weight': lambda backend, _, ref: backend.set_weight(ref, 2.0),
    'deregister': lambda backend, _, ref: backend.deregister(ref),
    'remove_node': lambda backend, _, ref: backend.remove_node(ref),
    'acquire_leadership': lambda backend, _, ref: backend.acquire_leadership(ref, 1),
    'snapshot': lambda backend, *_: backend.snapshot(),
    'read_assignment': lambda backend, *_: backend.read_assignment(),
    'commit': lambda backend, timeline, ref: backend.commit(ref, Plan('test'), Guard(timeline, 1, INITIAL)),
    'read_locks': lambda backend, *_: backend.read_locks(),
    'edit_locks': lambda backend, *_: backend.edit_locks(LOCK),
    'append_claims': lambda backend, _, ref: backend.append_claims(ref, ['x'], DAY),
    'forget_attempts': lambda backend, _, ref: backend.forget_attempts(['x'], DAY, ref),
    'lost_attempts': lambda backend, *_: backend.lost_attempts(DAY),
    'append_audits': lambda backend, _, ref: backend.append_audits(ref.name, ['x'], DAY),
    'history': lambda backend, *_: backend.history(HistoryKind.CLAIM),
    'incomplete': lambda backend, *_: backend.incomplete(DAY, dt.timedelta(0)),
    'purge': lambda backend, *_: backend.purge(HistoryKind.CLAIM, NOW, 1000),
}
"""By method, from a handle, the timeline and a node to the call. Every method except ``open``, ``close`` and ``wait``."""
