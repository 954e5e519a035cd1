"""SQLite's triggers: they notice manual edits of the tables of nodes, tokens, locks and items, and raise the revision.

Our own transactions that change these tables set ``state.writer`` for their duration. A heartbeat does not: it writes none of the
columns that the trigger on nodes watches.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobsync.backends.sql.schema import Tables

__all__ = ['MANUAL', 'triggers']

NODE_COLUMNS = 'name, created_on, state, incarnation, replaces, weight, timeout_sec'
LOCK_COLUMNS = 'id, token_id, task_id, node_pattern, patterns, reason, created_by, expires_at'
ITEM_COLUMNS = f'{LOCK_COLUMNS}, item_group, cost'

NEW_REVISION = 'UPDATE {state} SET revision = revision + 1, stamp = (random() & 4611686018427387903) + 1;'
NEW_VERSION = "UPDATE {state} SET version = revision, version_stamp = stamp, builds_on = '[]';"
LOCKS_CHANGED = 'UPDATE {state} SET locks_revision = revision;'
NEW_FENCE = 'UPDATE {token} SET version = (SELECT revision FROM {state}) WHERE token_id = NEW.token_id{condition};'
COMPLETE_LOCK = """
    UPDATE {state} SET last_lock = max(last_lock + 1, NEW.id);
    UPDATE {table} SET
        id = (SELECT last_lock FROM {state}),
        token_id = (SELECT last_lock + total_tokens FROM {state}),
        patterns = coalesce(patterns, json_array(node_pattern)),
        created_at = coalesce(created_at, strftime('%Y-%m-%d %H:%M:%f000', 'now'))
    WHERE id = NEW.id;"""
PATTERN_COUNTS = 'UPDATE {table} SET patterns = json_array(NEW.node_pattern) WHERE id = NEW.id;'
KEEP_OUT = "SELECT raise(ABORT, '{table} is for jobsync alone to write');"
UNOWNED = """
    SELECT raise(ABORT, 'this token has no owner, and only the leader may give it to a node')
    WHERE EXISTS (SELECT 1 FROM {unowned} WHERE token_id = NEW.token_id);"""
KEEP_ROW = 'SELECT raise(IGNORE);'

MANUAL = '(SELECT writer FROM {state}) = 0'
"""In each of these triggers, and in no other."""


def triggers(tables: Tables) -> Iterator[str]:
    """Yield the CREATE TRIGGER statements of a namespace."""
    node, token, state = (table.name for table in (tables.node, tables.token, tables.state))
    unowned, change = tables.unowned.name, tables.change.name

    def trigger(table: str, name: str, event: str, *body: str, moment: str = 'AFTER', when: str = '', condition: str = '') -> str:
        template = f'CREATE TRIGGER {table}_{name} {moment} {event} ON {table} WHEN {when}{MANUAL} BEGIN {" ".join(body)} END'
        return template.format(state=state, token=token, unowned=unowned, condition=condition, table=table)

    yield trigger(node, 'inserted', 'INSERT', NEW_REVISION)
    yield trigger(node, 'deleted', 'DELETE', NEW_REVISION)
    yield trigger(node, 'updated', f'UPDATE OF {NODE_COLUMNS}', NEW_REVISION)

    # jobsync never updates a token without raising ``changed``. Tested first, this saves commits of many rows the second test.
    untouched, moved = 'NEW.changed = OLD.changed AND ', ' AND NEW.node IS NOT OLD.node'
    yield trigger(token, 'inserted', 'INSERT', NEW_REVISION, NEW_VERSION, NEW_FENCE)
    yield trigger(token, 'deleted', 'DELETE', NEW_REVISION, NEW_VERSION)
    yield trigger(token, 'updated', 'UPDATE', NEW_REVISION, NEW_VERSION, NEW_FENCE, when=untouched, condition=moved)

    # Without its pin's row a task would follow its hash, while the pin's holder may still be busy with it.
    pin = 'OLD.task_id IS NOT NULL AND '
    yield trigger(token, 'kept', 'DELETE', KEEP_ROW, moment='BEFORE', when=pin)
    yield trigger(token, 'still_kept', 'UPDATE OF token_id, task_id', KEEP_ROW, moment='BEFORE', when=pin)

    # The token would be in both tables. With its row here deleted later, it would pass for unowned while a node may hold it.
    yield trigger(token, 'claimed', 'INSERT', UNOWNED, moment='BEFORE')
    yield trigger(token, 'renumbered', 'UPDATE OF token_id', UNOWNED, moment='BEFORE')
    for ours in (unowned, change):
        for name, event in (('inserted', 'INSERT'), ('deleted', 'DELETE'), ('updated', 'UPDATE')):
            yield trigger(ours, name, event, KEEP_OUT, moment='BEFORE')

    same_list = 'NEW.patterns IS OLD.patterns AND NEW.node_pattern <> OLD.node_pattern AND '
    for lock, columns in ((tables.lock.name, LOCK_COLUMNS), (tables.item.name, ITEM_COLUMNS)):
        yield trigger(lock, 'inserted', 'INSERT', NEW_REVISION, LOCKS_CHANGED, COMPLETE_LOCK)
        yield trigger(lock, 'deleted', 'DELETE', NEW_REVISION, LOCKS_CHANGED)
        yield trigger(lock, 'updated', f'UPDATE OF {columns}', NEW_REVISION, LOCKS_CHANGED)
        yield trigger(lock, 'repatterned', 'UPDATE OF node_pattern', PATTERN_COUNTS, when=same_list)
