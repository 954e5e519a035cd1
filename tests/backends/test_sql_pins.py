"""A handle reads those pins anew that were written since its last reading, and all of them where it cannot know which."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.support.harnesses.sql import SqlHarness
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backend import Assignment, Backend, NodeRef, Pin, TokenGroup
from jobsync.backends.sql import commits, read_assignment
from jobsync.backends.sql.dialect import Dialect
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS


def pin(number: int, owner: str | None = 'a', target: str | None = None) -> Pin:
    """Return a pin of this number."""
    return Pin(TOKENS + number, f't{number}', owner, target, pattern='%')


def populated(namespace: Namespace, harness: SqlHarness) -> tuple[NodeRef, Backend, Assignment]:
    """Write twenty pins, two of them without an owner; return the leader, a reader, and what the reader has read."""
    leader = namespace.leader()
    namespace.commit(leader, pins=tuple(pin(number, None if number < 3 else 'a') for number in range(1, 21)))
    reader = harness.connect()
    reader.open(SETTINGS, create=False)
    return leader, reader, Assignment.empty(TOKENS).apply(reader.read_assignment())


def read_all(_: Dialect) -> sa.Executable:
    """Fail, because a statement is built that reads all pins."""
    raise AssertionError('all pins are read')


def test_a_difference_reads_the_pins_that_were_written(
    namespace: Namespace, harness: SqlHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pins that are new, changed, released, given an owner and removed come by their ids, over one commit or several."""
    leader, reader, known = populated(namespace, harness)
    for several in (1, 3):
        for _ in range(several):
            namespace.commit(leader, TokenGroup([0], 'a'))
            namespace.commit(
                leader,
                pins=(pin(30), pin(4, 'b'), pin(5, 'a', 'b'), pin(6, None), pin(1, 'c')),
                unpinned=frozenset([TOKENS + 7, TOKENS + 2]),
            )
            namespace.commit(leader, pins=(pin(4, 'c'), pin(7)), unpinned=frozenset([TOKENS + 30]))
        with monkeypatch.context() as patched:
            patched.setattr(read_assignment, 'all_pins', read_all)
            changes = reader.read_assignment(known.version)
            assert changes.base == known.version
            known = known.apply(changes)
            assert reader.read_assignment(known.version).pins == changes.pins
    assert known.pins == namespace.pins()
    assert [*known.pins] == sorted(known.pins)


def test_pins_of_locks_with_large_ids(namespace: Namespace, harness: SqlHarness) -> None:
    """A difference has the pin of a lock that an operator has inserted with an id beyond 32 bits, or the removal of the pin."""
    leader, reader, known = populated(namespace, harness)
    harness.execute("INSERT INTO sync_lock (id, task_id, node_pattern) VALUES (3000000000, 'x', '%')")
    (lock,) = namespace.locks().values()
    assert lock.id == 3_000_000_000
    known = read_on(reader, known, harness)
    namespace.commit(leader, pins=(pin(lock.id),))
    changed = read_on(reader, known, harness)
    assert TOKENS + lock.id in changed.pins
    namespace.commit(leader, unpinned=frozenset([TOKENS + lock.id]))
    assert read_on(reader, changed, harness).pins == known.pins
    assert read_on(reader, known, harness).pins == known.pins


def test_a_commit_that_lists_no_pins_is_followed_by_a_reading_of_all(
    namespace: Namespace, harness: SqlHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader of an older version of jobsync does not say which pins it writes."""
    leader, reader, known = populated(namespace, harness)

    def without_pins(dialect: Dialect) -> sa.Insert:
        new = {'revision': commits.NEW_NUMBER, 'version': commits.NEW_NUMBER, 'members': commits.NEW_MEMBERS}
        return sa.insert(dialect.tables.change).values(
            **new, numbers=sa.func.substr(sa.bindparam('new_pins', type_=sa.Text), 1, 0)
        )

    with monkeypatch.context() as patched:
        patched.setattr(commits, 'log_members', without_pins)
        namespace.commit(leader, pins=(pin(4, 'b'),), unpinned=frozenset([TOKENS + 5]))
    namespace.commit(leader, pins=(pin(6, 'b'),))
    assert known.apply(reader.read_assignment(known.version)).pins == namespace.pins()


def test_another_base_than_that_of_the_last_reading_reads_all(namespace: Namespace, harness: SqlHarness) -> None:
    """A handle that several callers share does not take the pins of one caller's version for those of another's.

    The reading of the older version may be over after that of the newer one.
    """
    leader, reader, known = populated(namespace, harness)
    namespace.commit(leader, pins=(pin(4, 'b'),))
    newer = known.apply(harness.connect().read_assignment(known.version))
    namespace.commit(leader, pins=(pin(5, 'b'),))
    assert newer.apply(reader.read_assignment(newer.version)).pins == namespace.pins()
    assert known.apply(reader.read_assignment(known.version)).pins == namespace.pins()


def read_on(reader: Backend, known: Assignment, harness: SqlHarness) -> Assignment:
    """Read on from what is known, which must give what a handle reads that knows nothing."""
    found = known.apply(reader.read_assignment(known.version))
    fresh = harness.connect()
    fresh.open(SETTINGS, create=False)
    complete = Assignment.empty(TOKENS).apply(fresh.read_assignment())
    assert (found.version, found.members, found.pins) == (complete.version, complete.members, complete.pins)
    assert [found.row(token) for token in range(TOKENS)] == [complete.row(token) for token in range(TOKENS)]
    return found


@pytest.mark.parametrize(
    'edit',
    [
        "UPDATE sync_token SET node = 'b' WHERE task_id = 't4'",
        "UPDATE sync_token SET target = 'b' WHERE task_id = 't5'",
        "DELETE FROM sync_token WHERE token_id = 3 OR task_id = 't6'",
        'DELETE FROM sync_lock',
    ],
)
def test_pins_that_are_edited_manually_are_read(namespace: Namespace, harness: SqlHarness, edit: str) -> None:
    """After a manual edit, alone or between commits, a handle reads what a new one reads."""
    leader, reader, known = populated(namespace, harness)
    harness.execute(edit)
    known = read_on(reader, known, harness)
    namespace.commit(leader, pins=(pin(8, 'b'),))
    harness.execute(edit)
    namespace.commit(leader, pins=(pin(9, 'b'),))
    assert read_on(reader, known, harness).pins[TOKENS + 9].owner == 'b'


@pytest.mark.parametrize('is_read_at_once', [True, False])
def test_a_store_that_goes_back_takes_its_pins_along(tmp_path: Path, is_read_at_once: bool) -> None:
    """A handle that has read on since a backup reads the pins of the backup, and those that are committed after it was put back.

    The backup is put back into the same file, so that nothing shows it but the revisions, which come a second time with other
    stamps and other pins.
    """
    harness = SqliteHarness(tmp_path)
    namespace = Namespace(harness.connect())
    leader, reader, old = populated(namespace, harness)
    backup = harness.backup()
    namespace.commit(leader, pins=(pin(4, 'b'), pin(30)), unpinned=frozenset([TOKENS + 5]))
    namespace.commit(leader, pins=(pin(6, 'b'),))
    known = read_on(reader, old, harness)
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(harness.path)) as target:
        source.backup(target)
    if is_read_at_once:
        known = read_on(reader, known, harness)
        assert known.pins == old.pins
    for number in (7, 8, 9):
        namespace.commit(leader, pins=(pin(number, 'c'),))
    assert namespace.snapshot().version.number > known.version.number
    known = read_on(reader, known, harness)
    assert read_on(reader, old, harness).pins == known.pins
    harness.close()


def test_a_new_timeline_has_no_pins(namespace: Namespace, harness: SqlHarness) -> None:
    """A handle keeps none of those of the timeline before."""
    _, reader, known = populated(namespace, harness)
    namespace.renew_timeline()
    known = read_on(reader, known, harness)
    assert not known.pins
    namespace.commit(namespace.leader(), pins=(pin(4, 'b'),))
    assert [*read_on(reader, known, harness).pins] == [TOKENS + 4]
