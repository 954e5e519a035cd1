"""The beginnings of a namespace: its first state, other settings, and a timeline that is renewed (rule R8)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
import sqlalchemy as sa

from jobsync.backend import INITIAL, NodeState, Opened, Settings, Timeline
from jobsync.backends._common.values import draw_id, next_revision
from jobsync.backends.sql import state as states
from jobsync.backends.sql.schema import SCHEMA_VERSION, creation
from jobsync.backends.sql.sound import is_readable
from jobsync.backends.sql.store import SqlStore, SqlTransaction

__all__ = ['begin', 'create', 'put_settings', 'renew']


def new_timeline(generation: int, store: str) -> dict[str, Any]:
    """Return the columns of a timeline that begins."""
    return {'generation': generation, 'timeline': draw_id(), 'store': store}


def create(store: SqlStore, tx: SqlTransaction, settings: Settings) -> None:
    """Create the tables and triggers, and insert the first state, unless another process has done so."""
    store.lock_schema(tx)
    if store.has_schema(tx):
        return
    of = tx.connection.dialect
    tx.execute_texts(creation(tx.tables, f'{of.name}+{of.driver}://'))
    store.watch(tx)
    begin(tx, settings)


def begin(tx: SqlTransaction, settings: Settings) -> None:
    """Insert the first state into empty tables."""
    identity = tx.execute(sa.select(tx.dialect.identity())).scalar_one()
    row = sa.insert(tx.tables.state).values(
        id=1,
        schema_version=SCHEMA_VERSION,
        **attrs.asdict(settings),
        **new_timeline(0, identity),
        revision=INITIAL.number,
        stamp=INITIAL.stamp,
        version=INITIAL.number,
        version_stamp=INITIAL.stamp,
        epoch=0,
        locks_revision=0,
        last_lock=0,
        longest_timeout_sec=0.0,
        writer=0,
        builds_on=states.dump_revisions([INITIAL]),
        members='{}',
    )
    tx.execute(row)


def put_settings(tx: SqlTransaction, settings: Settings, dead: Collection[tuple[str, int]]) -> Opened:
    """Put settings in force, and renew the timeline, if every registered node is among ``dead``; return what is in force then."""
    state = states.read(tx)
    node = tx.tables.node
    joined = sa.select(node.c.incarnation, node.c.heartbeat)
    joined = joined.where(node.c.state == NodeState.JOINED.value, tx.dialect.is_sound(is_readable, node.name))
    # t=0  this transaction reads that node a, taken for dead, has heartbeat 7
    # t=1  a, which was only slow, sends heartbeat 8
    # t=2  this transaction deletes a: a living node with other settings would be gone without a word
    # FOR UPDATE makes t=1 wait for the end of this transaction, and find its record gone: Evicted.
    if state.settings == settings or not all(beat in dead for beat in map(tuple, tx.execute(joined.with_for_update()))):
        return Opened(state.settings, state.timeline)
    renew(tx, state.timeline, 0, **attrs.asdict(settings))
    for lock in (tx.tables.lock, tx.tables.item):
        tx.enqueue(sa.update(lock).values(token_id=lock.c.id + settings.total_tokens))
    return Opened(settings, states.read(tx).timeline)


def renew(tx: SqlTransaction, expected: Timeline, at_least: int, longest_timeout_sec: float = 0.0, **changes: Any) -> None:
    """See ``Backend.renew_timeline``; ``changes`` are other columns of ``state``."""
    state = states.read(tx)
    if state.timeline != expected:
        return
    revision = next_revision(state.revision, at_least)
    for table in (tx.tables.token, tx.tables.node, tx.tables.unowned, tx.tables.change):
        tx.enqueue(sa.delete(table))
    states.save(
        tx,
        revision,
        version=revision.number,
        version_stamp=revision.stamp,
        leader=None,
        leader_incarnation=None,
        members='{}',
        builds_on=states.dump_revisions([revision]),
        longest_timeout_sec=max(state.longest_timeout_sec, longest_timeout_sec),
        **new_timeline(state.timeline.generation + 1, state.store),
        **changes,
    )
