"""What the store has recorded of the tasks of one date: claims and audits of every node."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import cast

from jobsync._cluster.names import is_tick
from jobsync._core.records import Audit, Claim, HistoryKind
from jobsync._worker.session import Session
from jobsync.rows import AuditRow, TaskRow
from jobsync.task import Task

__all__ = ['DateHistory', 'task_row']


class DateHistory:
    """The claims and audits of one date, read anew by each method. Without a store there are none."""

    def __init__(self, session: Session, date: dt.date) -> None:
        self._session, self.date = session, date

    def read_audit_rows(self) -> list[AuditRow]:
        """Return every audit of the date as a mapping, newest first. Raise ``JobsyncError`` without a store."""
        self._session.needed_backend  # noqa: B018 - raises
        return [task_row(row) for row in self.read_audits()]

    def read_audits(self, limit: int | None = None, item: str | None = None) -> Sequence[Audit]:
        """Return audits of the date, newest first: all or the newest, of all tasks or of one."""
        return cast('Sequence[Audit]', self._read(HistoryKind.AUDIT, limit, item))

    def read_last_claim(self, item: str, *, of_any_date: bool = False) -> Claim | None:
        """Return the newest claim of a task, at the date or ``of_any_date``; None if no node has begun it."""
        found = cast('Sequence[Claim]', self._read(HistoryKind.CLAIM, 1, item, of_any_date=of_any_date))
        return found[0] if found else None

    def read_claims(self, item: str) -> Sequence[Claim]:
        """Return the claims of a task, one of each node that has begun it, newest first."""
        return cast('Sequence[Claim]', self._read(HistoryKind.CLAIM, None, item))

    def read_incomplete(self, older_than: dt.timedelta) -> list[Task]:
        """Return the tasks that were begun longer ago than ``older_than`` and never completed, ticks of schedules left out."""
        # t=0  the owner of a schedule dies in the midst of a tick
        # t=1  a program gives what is incomplete to its own loop, which takes the tick's item for a task, and completes it
        # t=2  the next owner of the schedule finds the tick complete, and never runs it
        backend = self._session.needed_backend
        claims = self._session.caller.call(lambda: backend.incomplete(self.date, older_than))
        return [Task(claim.item) for claim in claims if not is_tick(claim.item)]

    def _read(self, kind: HistoryKind, limit: int | None, item: str | None, *, of_any_date: bool = False) -> Sequence[object]:
        backend = self._session.backend
        if backend is None:
            return ()
        date = None if of_any_date else self.date
        return self._session.caller.call(lambda: backend.history(kind, limit=limit, date=date, item=item))


def task_row(row: Claim | Audit) -> TaskRow:
    """Return a claim or an audit as a mapping."""
    return {'item': row.item, 'node': row.node, 'date': row.date, 'created_on': row.created_on}
