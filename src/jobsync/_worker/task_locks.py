"""Task locks as users write and read them: checked requests on their way in, mappings on their way out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jobsync._cluster.rows import lock_rows
from jobsync._core.counting import counted
from jobsync._core.patterns import compile_like
from jobsync._core.records import LockEdit, LockFilter, LockRequest
from jobsync._core.redact import listed, safe_repr
from jobsync._event_log import EventLogger
from jobsync._worker.session import Session
from jobsync.config import checks
from jobsync.errors import ConfigError
from jobsync.rows import LockRow
from jobsync.task import key_of

__all__ = ['TaskLocks', 'lock_request', 'lock_requests', 'patterns_of', 'warn_of_globs']

_logger = EventLogger('jobsync.job')


class TaskLocks:
    """The task locks of a namespace, as one node edits and reads them."""

    def __init__(self, session: Session) -> None:
        self._session, self._node_name = session, session.node_name
        self._gathered: list[LockRequest] | None = None

    def put(self, requests: list[LockRequest]) -> None:
        """Register task locks in one step; while a ``lock_provider`` runs, gather them for its one step."""
        warn_of_globs(self._node_name, {pattern for request in requests for pattern in request.patterns})
        if not self._session.config.locks_enabled:
            _logger.warning(
                'node %r: locks_enabled is off, not registered: %s', self._node_name, counted(len(requests), 'task lock')
            )
            return
        gathered = self._gathered
        if gathered is not None:
            gathered.extend(requests)
        # t=0  a thread of the program's finds that locks are gathered
        # t=1  the lock_provider has ended, and its step is done
        # t=2  the thread adds its lock to a list that no step reads any more: so it registers the lock itself
        if requests and (gathered is None or gathered is not self._gathered):
            self._edit(LockEdit(put=_last_of_each(requests)))

    def provide(self, provider: Callable[[], object] | None, replace: bool) -> None:
        """Register the task locks of ``provider`` in one step, which with ``replace`` removes all others of this node."""
        if not self._session.config.locks_enabled:
            _logger.warning('node %r: locks_enabled is off, lock_provider is not called', self._node_name)
            return
        gathered: list[LockRequest] = []
        replaced = LockFilter(created_by=self._node_name) if replace else None
        self._gathered = gathered
        try:
            self._session.is_preparing = True
            try:
                if provider is not None:
                    provider()
            finally:
                self._session.is_preparing = False
            provided = gathered.copy()
            if provided or replaced:
                self._edit(LockEdit(remove=replaced, put=_last_of_each(provided)))
        finally:
            self._gathered = None
        # t=0  the step is on its way, and removes all locks of this node but those of the function
        # t=1  a thread of the program's registers one: before the step, it would be removed
        if later := gathered[len(provided) :]:
            self._edit(LockEdit(put=_last_of_each(later)))

    def clear(self, condition: LockFilter) -> int:
        """Remove task locks; return how many."""
        return self._edit(LockEdit(remove=condition))

    def rows(self) -> list[LockRow]:
        """Return every task lock as a mapping, by token_id."""
        session = self._session
        locks = session.caller.call(session.needed_backend.read_locks).locks
        return lock_rows(locks, session.config.total_tokens, session.read_assignment().pin_of)

    def _edit(self, edit: LockEdit) -> int:
        backend = self._session.needed_backend
        return self._session.caller.call(lambda: backend.edit_locks(edit))


def warn_of_globs(node_name: str, patterns: Iterable[str]) -> None:
    """Log a warning of patterns that are written as for a shell, and match no other name than themselves."""
    if globs := [each for each in patterns if ('*' in each or '?' in each) and not ('%' in each or '_' in each)]:
        _logger.warning(
            'node %r: these patterns match only a node of that very name: %s. Patterns are those of SQL LIKE: %% is any '
            'number of characters, _ is one',
            node_name,
            listed(map(repr, globs)),
        )


def lock_request(
    creator: str, task_id: object, pattern: object, reason: Any = None, expires_in_days: object = None
) -> LockRequest:
    """Return a checked request. Raise ``ConfigError`` for what is not allowed."""
    return LockRequest(
        task_id=key_of(task_id),
        patterns=patterns_of(pattern),
        created_by=creator,
        reason=checks.reason.of('reason', reason),
        expires_in=_expiry(expires_in_days),
    )


def lock_requests(creator: str, locks: Iterable[Sequence[Any]]) -> list[LockRequest]:
    """Return checked requests of tuples (task_id, pattern[, reason[, expires_in_days]]).

    The tuples of one task become one request, whose patterns are theirs in order.
    """
    found: dict[str, LockRequest] = {}
    like: LockRequest | None = None
    terms: Sequence[Any] = ()
    for lock in checks.locks.of('locks', locks):
        if not _is_row(lock) or not 2 <= len(lock) <= 4:
            raise ConfigError(f'lock {safe_repr(lock)}: must be a tuple (task_id, node_pattern[, reason[, expires_in_days]])')
        # Most locks have the pattern and reason of the lock before, which have been checked.
        if like is not None and len(lock) < 4 and lock[1:] == terms and type(lock[1]) is str:
            request = LockRequest(key_of(lock[0]), like.patterns, creator, like.reason)
        else:
            request = like = lock_request(creator, *lock)
            terms = lock[1:]
        before = found.setdefault(request.task_id, request)
        if before is not request:
            patterns = tuple(dict.fromkeys((*before.patterns, *request.patterns)))
            found[request.task_id] = LockRequest(
                request.task_id, patterns, creator, before.reason or request.reason, before.expires_in or request.expires_in
            )
    return list(found.values())


def _last_of_each(requests: list[LockRequest]) -> tuple[LockRequest, ...]:
    return tuple({request.task_id: request for request in requests}.values())


def _is_row(lock: object) -> bool:
    """Return whether a lock is a sequence, and not a text. The abstract class alone takes ten times as long to check."""
    return isinstance(lock, (tuple, list)) or (isinstance(lock, Sequence) and not isinstance(lock, str))


def patterns_of(pattern: object) -> tuple[str, ...]:
    """Return the checked patterns of one argument. Raise ``ConfigError`` for what is none."""
    if isinstance(pattern, (list, tuple)):
        if not pattern:
            raise ConfigError(f'node pattern {safe_repr(pattern)}: must be a string, or a list of at least one')
        return tuple(map(_pattern, pattern))
    return (_pattern(pattern),)


def _pattern(pattern: object) -> str:
    text = compile_like(pattern).pattern
    if not text:
        raise ConfigError(f'node pattern {safe_repr(pattern)}: must not be empty; % matches every node')
    if not checks.is_storable(text):
        raise ConfigError(f'node pattern {safe_repr(pattern)}: must be text without NUL and lone surrogates')
    return text


def _expiry(days: object) -> dt.timedelta | None:
    if days is None:
        return None
    if isinstance(days, bool) or not isinstance(days, (int, float)) or not 0 < days <= 36_500:
        raise ConfigError(f'expires_in_days is {safe_repr(days)}: must be a number of days above 0, at most 36500')
    return dt.timedelta(days=days)
