"""Readings beside writers: with a handle for each thread, and with one handle shared by all."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from jobsync.backend import (
    INITIAL,
    Assignment,
    Backend,
    HistoryKind,
    Leadership,
    LockEdit,
    LockFilter,
    LockRequest,
    Member,
    NodeRef,
    NodeState,
    Pin,
    Registration,
    Settings,
    TokenGroup,
    TokenRow,
)
from jobsync.testing.conformance.handles import THREADS, HandleFixtures, patient
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import DAY, SETTINGS, TOKENS, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC, race

__all__ = ['ConcurrentReadingTests']

MANY = 250
"""Records of one call."""
MANY_TOKENS = 1_200
"""Tokens of a pool for commits with many pins."""


class ConcurrentReadingTests(HandleFixtures):
    """While others write, each reading is of one moment, and none is of an earlier moment than a reading before it."""

    @pytest.mark.parametrize('pins', [2, MANY])
    def test_readers_never_see_a_mix(self, harness: Harness, backends: list[Backend], rounds: int, pins: int) -> None:
        """While commits follow each other, each reading of the assignment, whole or difference, is one version throughout.

        So is each that names all tokens, which a backend may read otherwise than one that names none.
        A commit may have more rows, pins and members than a store takes in one statement or transaction of its own.
        """
        settings = Settings(TOKENS if pins <= TOKENS else MANY_TOKENS, 'xxh3')
        namespace = Namespace(patient(harness), settings)
        leader, empty = namespace.leader(), namespace.snapshot().version

        def write(writer: Namespace) -> None:
            members: dict[str, Member | None] = {}
            for step in range(1, (2 * rounds if pins <= TOKENS else 4) + 1):
                name = f'v{step}'
                group = TokenGroup(range(settings.total_tokens), name, name, name)
                members = dict.fromkeys(members) | {f'{name} {number}': Member(name, float(step)) for number in range(pins)}
                put = tuple(Pin(settings.total_tokens + number, name, name, name) for number in range(1, pins + 1))
                writer.commit(leader, group, members=members, pins=put)
                members = {member: found for member, found in members.items() if found is not None}

        def read(backend: Backend) -> Iterator[None]:
            assignment = Assignment.empty(settings.total_tokens)
            for number in itertools.count():
                since = assignment.version if number % 2 else None
                changes = backend.read_assignment(since, range(settings.total_tokens) if number % 4 > 1 else None)
                assignment = assignment.apply(changes)
                if assignment.version != empty:
                    check_uniform(assignment, pins)
                yield

        read_while_writing(backends, write, read, settings)

    def test_a_call_with_many_records_is_read_whole(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """While sets of locks replace each other, and items are claimed and completed many at a time, readers see each whole."""
        ref = namespace.join('a')

        def write_one(writer: Namespace, step: int) -> None:
            names = [f'{step} {number}' for number in range(MANY)]
            puts = tuple(LockRequest(name, ('a',), 'me') for name in names)
            writer.backend.edit_locks(LockEdit(remove=LockFilter(), put=puts))
            writer.backend.append_claims(ref, names, DAY)
            writer.backend.append_audits(ref.name, names, DAY)

        def write(writer: Namespace) -> None:
            for step in range(1, rounds):
                write_one(writer, step)

        def read(backend: Backend) -> Iterator[None]:
            while True:
                sets = [lock.task_id.split()[0] for lock in backend.read_locks().locks]
                assert (len(sets), len(set(sets))) == (MANY, 1)
                for kind in (HistoryKind.CLAIM, HistoryKind.AUDIT):
                    found = backend.history(kind)
                    assert len(found) == len(set(found)), f'a {kind.value} is read twice'
                    assert len(found) % MANY == 0, kind
                yield

        write_one(namespace, 0)
        read_while_writing(backends, write, read)

    def test_snapshots_never_see_a_mix(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """While the leadership changes and leaders commit, version, revision, counters and leadership of a snapshot agree, and
        those of a Pulse.
        """
        a, b, follower = namespace.join('a'), namespace.join('b'), namespace.join('follower')
        base = namespace.revision.number

        def write(writer: Namespace) -> None:
            for step in range(2 * rounds):
                writer.commit(writer.lead((a, b)[step % 2]))

        def read(backend: Backend) -> Iterator[None]:
            while True:
                snapshot = backend.snapshot()
                commits = sum(node.heartbeat for node in snapshot.nodes if node.ref != follower)
                epoch = snapshot.leadership.epoch
                assert snapshot.revision.number == base + epoch + commits
                assert epoch - commits in (0, 1)
                assert (snapshot.version == snapshot.revision) == (epoch == commits > 0)
                assert snapshot.leadership.node == (None if epoch == 0 else (b, a)[epoch % 2])
                pulse = backend.heartbeat(follower, INITIAL, frozenset())
                epoch = pulse.leadership.epoch
                commits = pulse.revision.number - base - epoch
                assert epoch - commits in (0, 1), f'revision and leadership are of two moments: {pulse}'
                assert (pulse.version == pulse.revision) == (epoch == commits > 0), f'the version is of another moment: {pulse}'
                beats = None if epoch == 0 else (epoch + 1) // 2 - (epoch - commits)
                assert pulse.leader_heartbeat == beats, f"the leader's heartbeat is of another moment: {pulse}"
                yield

        read_while_writing(backends, write, read)

    def test_snapshots_have_one_timeline_and_one_revision_of_locks(
        self, namespace: Namespace, backends: list[Backend], rounds: int
    ) -> None:
        """While locks are edited and the timeline is renewed in turn, all numbers of a snapshot are of one moment."""
        base = namespace.revision.number

        def write(writer: Namespace) -> None:
            for step in range(rounds):
                writer.lock(f'task {step}')
                writer.renew_timeline()

        def read(backend: Backend) -> Iterator[None]:
            while True:
                snapshot = backend.snapshot()
                number, generation = snapshot.revision.number - base, snapshot.timeline.generation
                assert number in (2 * generation, 2 * generation + 1), f'revision and timeline are of two moments: {snapshot}'
                locks = number - 1 + number % 2  # odd revisions are those of the edits
                assert snapshot.locks_revision == (base + locks if number else 0), 'locks_revision is of another moment'
                yield

        read_while_writing(backends, write, read)

    def test_snapshots_count_the_timeout_of_every_node(self, backends: list[Backend], rounds: int) -> None:
        """While nodes register, each with a longer timeout, no snapshot has a node with a longer timeout than its longest one.

        The leader waits out the longest one where it does not know whose lease may last.
        """

        def write(writer: Namespace) -> None:
            for step in range(1, 2 * rounds):
                writer.join(f'n{step}', timeout_sec=float(step))

        def read(backend: Backend) -> Iterator[None]:
            while True:
                snapshot = backend.snapshot()
                longest = max((node.timeout_sec for node in snapshot.nodes), default=0.0)
                assert snapshot.longest_timeout_sec >= longest, 'the longest timeout is of an earlier moment than the nodes'
                yield

        read_while_writing(backends, write, read)

    def test_locks_and_items_are_read_in_one_moment(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """While a lock and an item of one task are changed in turn, a reading has both of one step, or the lock of the next."""

        def write_one(writer: Namespace, step: int) -> None:
            for group in ('', 'g'):
                writer.lock('x', group=group, reason=str(step))

        def write(writer: Namespace) -> None:
            for step in range(1, rounds):
                write_one(writer, step)

        def read(backend: Backend) -> Iterator[None]:
            while True:
                steps = {lock.group: int(str(lock.reason)) for lock in backend.read_locks().locks}
                assert steps[''] - steps['g'] in (0, 1), f'lock and item are of two moments: {steps}'
                yield

        write_one(namespace, 0)
        read_while_writing(backends, write, read)

    def test_open_work_is_read_in_one_moment(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """While sets of items are claimed and completed in turn, a reading of what is incomplete has one whole set, or nothing.

        Otherwise completed work is incomplete to a reader that has read what is completed a moment before the claims.
        """
        ref = namespace.join('a')

        def write(writer: Namespace) -> None:
            for step in range(2 * rounds):
                items = [f'{step} {number}' for number in range(20)]
                writer.claim(ref, *items)
                writer.audit('a', *items)

        def read(backend: Backend) -> Iterator[None]:
            while True:
                sets = [claim.item.split()[0] for claim in backend.incomplete(DAY, dt.timedelta(0))]
                assert (len(sets), len(set(sets))) in ((0, 0), (20, 1)), sets
                yield

        read_while_writing(backends, write, read)

    def test_attempts_of_newcomers_are_not_lost(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """While runs register and attempt items at once, no reading and no claim finds a lost attempt: all runs live."""
        ref = namespace.join('a')

        def write(writer: Namespace) -> None:
            for step in range(2 * rounds):
                writer.attempt(writer.join(f'n{step}'), 'x')

        def read(backend: Backend) -> Iterator[None]:
            # t=0  a reading finds which runs are JOINED
            # t=1  another run registers, and attempts item x
            # t=2  the reading finds this attempt, and takes its run for one that is over: x is refused, or quarantined
            while True:
                assert backend.lost_attempts(DAY) == {}, 'an attempt of a run that lives is lost'
                assert backend.append_claims(ref, ['x'], DAY, 0).lost_attempts == {}, 'refused, and no attempt is lost'
                yield

        read_while_writing(backends, write, read)

    def test_a_difference_keeps_nothing_of_before_a_renewal(self, backends: list[Backend], rounds: int) -> None:
        """While the timeline is renewed and one row, pin and member committed in turn, readers of differences see those alone."""

        def write(writer: Namespace) -> None:
            for step in range(2 * rounds):
                writer.renew_timeline()
                name = f'v{step}'
                pin = Pin(TOKENS + 1 + step, name, name)
                writer.commit(writer.leader(), TokenGroup([step % TOKENS], name), members={name: Member(name, 1.0)}, pins=(pin,))

        def read(backend: Backend) -> Iterator[None]:
            # t=0  a reading finds that it can build on the reader's version
            # t=1  the timeline is renewed: it has no row of any token
            # t=2  the reading finds no row that has changed, and the reader keeps the owners of before
            assignment = Assignment.empty(TOKENS)
            while True:
                assignment = assignment.apply(backend.read_assignment(assignment.version))
                owners = sorted(owner for token in range(TOKENS) if (owner := assignment.row(token).owner) is not None)
                pins, members = [pin.owner for pin in assignment.pins.values()], list(assignment.members)
                assert len(members) <= 1, f'members of before a renewal: {members}'
                assert owners == pins == members, f'owners of tokens, owners of pins, members: {owners}, {pins}, {members}'
                yield

        read_while_writing(backends, write, read)

    def test_versions_never_go_back(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """While commits follow each other, no reading of any kind shows a version below an earlier reading."""
        leader, ref = namespace.leader(), namespace.join('a')

        def write(writer: Namespace) -> None:
            for step in range(3 * rounds):
                writer.commit(leader, TokenGroup([step % TOKENS], f'v{step}'))

        def read(backend: Backend) -> Iterator[None]:
            newest = 0
            kinds: list[Callable[[], int]] = [
                lambda: backend.read_assignment().version.number,
                lambda: backend.snapshot().version.number,
                lambda: backend.heartbeat(ref, INITIAL, frozenset()).version.number,
            ]
            while True:
                for kind in (0, 1, 0, 2):
                    found = kinds[kind]()
                    assert found >= newest, (kind, found, newest)
                    newest = found
                yield

        read_while_writing(backends, write, read)

    def test_acknowledged_writes_are_read_by_every_handle(
        self, namespace: Namespace, backends: list[Backend], rounds: int
    ) -> None:
        """While others write, every handle reads each write as soon as it is acknowledged, and none is lost.

        The first writer leads and commits besides. The revision of the locks never falls.
        """
        refs = [namespace.join(f'n{number}') for number in range(THREADS)]

        def write(number: int) -> None:
            backend, reader, ref, edited = backends[number], Namespace(backends[number - 1]), refs[number], 0
            beats = 2 if number == 0 else 1  # a commit is a heartbeat of the leader
            for step in range(1, rounds + 1):
                # t=0  a call of another writer reads the revision of the locks
                # t=1  this writer edits locks
                # t=2  that call writes the revision as it was, and a leader does not see the edit
                name, before = f'{number} {step}', reader.snapshot().locks_revision
                assert before >= edited, 'the revision of the locks is that of an earlier edit again'
                if number == 0:
                    epoch = reader.snapshot().leadership.epoch
                    assert backend.acquire_leadership(ref, epoch).epoch == epoch + 1
                    Namespace(backend).commit(ref)
                    assert reader.snapshot().leadership == Leadership(epoch + 1, ref)
                backend.set_weight(ref, float(step))
                assert reader.node(ref.name).weight == step
                backend.edit_locks(LockEdit(put=(LockRequest(name, ('a',), 'me'),)))
                assert name in reader.locks()
                edited = reader.snapshot().locks_revision
                assert edited > before, 'the revision of the locks is that of an edit before the last one'
                backend.append_claims(ref, [name], DAY)
                assert [claim.item for claim in reader.claims(item=name)] == [name]
                backend.append_audits(ref.name, [name], DAY)
                assert [audit.item for audit in reader.audits(item=name)] == [name]
                assert backend.heartbeat(ref, INITIAL, frozenset({step})).heartbeat == step * beats
                assert reader.node(ref.name).holding == {step}
                new = NodeRef(f'new {name}', 'x')
                backend.register(Registration(new, 15.0), namespace.timeline, 0)
                backend.deregister(new)
                assert reader.node(new.name).state is NodeState.LEFT
                removed = NodeRef(new.name, 'y')
                backend.register(Registration(removed, 15.0), namespace.timeline, 0)
                assert backend.remove_node(removed)
                assert new.name not in {node.name for node in reader.snapshot().nodes}

        assert race([partial(write, number) for number in range(THREADS)], 4 * DEADLINE_SEC) == [None] * THREADS
        assert len(namespace.locks()) == len(namespace.audits()) == len(namespace.claims()) == THREADS * rounds


def read_while_writing(
    backends: list[Backend],
    write: Callable[[Namespace], None],
    read: Callable[[Backend], Iterator[None]],
    settings: Settings = SETTINGS,
) -> None:
    """Write through the first handle, and meanwhile read through each other, once at least, until the writer ends."""
    is_over = threading.Event()

    def write_all() -> None:
        try:
            write(Namespace(backends[0], settings))
        finally:  # the error is the finding, and not that the readers go on
            is_over.set()

    def read_all(backend: Backend) -> None:
        for _ in read(backend):
            if is_over.is_set():
                return

    found = race([write_all, *(partial(read_all, backend) for backend in backends[1:])])
    assert found == [None] * len(backends), found


def check_uniform(assignment: Assignment, pins: int) -> None:
    """Check that every row, and each of so many pins and members, is of one step, and of the reading's version."""
    tokens, number = assignment.total_tokens, assignment.version.number
    (row,) = {assignment.row(token) for token in range(tokens)}
    name = str(row.owner)
    assert row == TokenRow(name, name, name, number)
    # Compared by themselves: what pytest says about two large sets that differ takes minutes on a busy machine.
    are_pins_same = set(assignment.pins.values()) == {Pin(tokens + n, name, name, name, number) for n in range(1, pins + 1)}
    assert are_pins_same, f'{len(assignment.pins)} pins, of another step than the rows of {name}'
    are_members_same = dict(assignment.members) == {f'{name} {n}': Member(name, float(name[1:])) for n in range(pins)}
    assert are_members_same, f'{len(assignment.members)} members, of another step than the rows of {name}'
