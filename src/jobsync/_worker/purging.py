"""Deleting old records of the history at a person's request, portion by portion."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from jobsync._cluster import actions
from jobsync.backend import Backend, HistoryKind, Purged, Snapshot
from jobsync.config import checks
from jobsync.errors import ConfigError

__all__ = ['purge_history']

StoreCall = Callable[[Callable[[], Any]], Any]

_LIMIT = 1000
"""How many records a portion reads."""


def purge_history(
    backend: Backend,
    call: StoreCall,
    actor: str,
    before: dt.datetime | None,
    older_than: dt.timedelta | float | None,
    kinds: Collection[str],
) -> dict[str, int]:
    """Delete records made before a moment, or older than a duration, and record who did it; return how many of each kind.

    ``call`` makes each call.
    """
    wanted = [kind for kind in HistoryKind if kind.value in checks.history_kinds.of('kinds', kinds)]
    if before is not None and older_than is None:
        moment = checks.aware_datetime.of('before', before)
        actions.read_first('purge', lambda: call(backend.snapshot))
    elif older_than is not None and before is None:
        age = checks.age(older_than)
        snapshot: Snapshot = actions.read_first('purge', lambda: call(backend.snapshot))
        moment = snapshot.now - min(age, snapshot.now - dt.datetime.min.replace(tzinfo=dt.UTC))
    else:
        raise ConfigError('purge needs one of before and older_than: records of which age are to be deleted?')
    deleted = dict.fromkeys((kind.value for kind in wanted), 0)
    try:
        with actions.attempt('a part of the purge'):
            for kind in wanted:
                after = ''
                while True:
                    portion: Purged = call(partial(backend.purge, kind, moment, _LIMIT, after))
                    deleted[kind.value] += portion.deleted
                    if not (after := portion.resume):
                        break
    finally:  # what was deleted before an interrupt, or a call that failed, is on record too
        if any(deleted.values()):
            words = ', '.join(f'{number} {kind}s' for kind, number in deleted.items())
            actions.record(backend, actor, 'purge', (), words, call)
    return deleted
