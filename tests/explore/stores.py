"""The memory store as terms: one namespace, and what a call of an agent or of an operator makes of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Any

import attrs
from tests.explore.codec import BASE, Codec
from tests.explore.terms import Count, Term, Terms

from jobsync._core.agent import commands
from jobsync._core.assignment import Plan
from jobsync._core.records import INITIAL, Guard, Node, NodeRef, Pulse, Revision
from jobsync._runtime.executor import execute
from jobsync.backend import Changes, Settings
from jobsync.backends.memory import MemoryBackend, MemorySpace
from jobsync.backends.single_writer import AssignmentTable, LockTable, NamespaceState
from jobsync.backends.single_writer.assignment import SharedRow
from jobsync.errors import JobsyncError
from jobsync.testing.editable_store import EditableStore

__all__ = ['Commit', 'StoreTerms']

_SPACE = 'sync_'
_MICROSECOND = dt.timedelta(microseconds=1)
_ROWS: dict[tuple[Any, ...], SharedRow] = {}


@attrs.frozen
class Commit:
    """A commit on its way to the store: what ``decide`` has planned, and the answer to give if it is accepted."""

    ref: NodeRef
    plan: Plan
    guard: Guard
    outcome: commands.CommitOutcome


class _Draws(Random):
    """In place of chance: one stamp for each history of the store, so that two histories never share one."""

    history = 1

    def getrandbits(self, bits: int, /) -> int:
        """Return the number of the history."""
        return self.history


class _Backend(MemoryBackend):
    """A memory backend that answers every reading of the assignment in full, and does not report the leader's age."""

    def read_assignment(self, since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        """See ``Backend.read_assignment``."""
        return super().read_assignment(None, tokens)

    def heartbeat(self, *arguments: Any) -> Pulse:
        """See ``Backend.heartbeat``."""
        return attrs.evolve(super().heartbeat(*arguments), leader_age_sec=None)


class StoreTerms:
    """Carries out calls on stores that are terms."""

    def __init__(self, terms: Terms, codec: Codec, settings: Settings, token_of: Callable[[str], int], *, position: bool) -> None:
        self._terms, self._codec, self._settings, self._token_of = terms, codec, settings, token_of
        self._random, self._now = _Draws(), BASE + _MICROSECOND
        self._store = EditableStore(lambda: self._now, self._random, 's1', has_position=position)
        self.backend = _Backend(self._store)
        assert self.backend.options.namespace == _SPACE
        self._history, self._days = 1, 0

    def empty(self) -> Term:
        """Return the store without a namespace."""
        return self._terms.make('store', (None, 's1', Count(('position', 0)), 1, 0))

    def call(self, store: Term, command: Term) -> tuple[Term, Any]:
        """Return the store after an agent's command, and the term of the reply."""
        self._load(store)
        call: Any = self._codec.value(command)
        try:
            if isinstance(call, Commit):
                answer: Any = attrs.evolve(call.outcome, revision=self.backend.commit(call.ref, call.plan, call.guard))
            else:
                answer = execute(self.backend, call, self._token_of)
        except JobsyncError as error:
            answer = error
        ref = getattr(call, 'ref', None)
        reply = self._codec.term(answer, ref.incarnation if ref is not None else '')
        return self._save(store), reply

    def edit(self, store: Term, action: Callable[[EditableStore, str], object]) -> Term:
        """Return the store after something that happens to it from outside."""
        self._load(store)
        action(self._store, _SPACE)
        return self._save(store)

    def node(self, store: Term, name: str) -> Node | None:
        """Return the record of a node, as a store has it; None if it has none."""
        found: Mapping[str, Node] = self._codec.value(store.parts[0].parts[5])
        return found.get(name)

    def rolled_back(self, store: Term, image: Term, *, new_identity: bool) -> Term:
        """Return the store as it was in an image, perhaps under another identity, at the beginning of another history."""
        space, identity, position, _, _ = image.parts
        history, days = store.parts[3] + 1, store.parts[4]
        return self._terms.make('store', (space, f's{history}' if new_identity else identity, position, history, days))

    def with_clock(self, store: Term, days: int) -> Term:
        """Return the store with a clock that is wrong by this many days."""
        return self._terms.make('store', (*store.parts[:4], days))

    def _load(self, store: Term) -> None:
        space, self._store.identity, position, self._history, self._days = store.parts
        self._random.history, self._store.position = self._history, position[1]
        self._now = BASE + dt.timedelta(days=self._days) + _MICROSECOND
        self._store.histories = {}
        if space is None:
            self._store.spaces = {}
            return
        if space.value is None:
            space.value = self._space(space)
        self._store.spaces = {_SPACE: space.value}

    def _save(self, before: Term) -> Term:
        space = self._store.spaces.get(_SPACE)
        if space is None:
            return before
        loaded = before.parts[0]
        if loaded is not None and loaded.value is space:
            return before
        term = self._of_space(space)
        position = Count(('position', self._store.position if self._store.has_position else 0))
        return self._terms.make('store', (term, self._store.identity, position, self._history, self._days))

    def _of_space(self, space: MemorySpace) -> Term:
        state, table, locks, term = space.state, space.assignment, space.locks, self._codec.term
        assert not state.unreadable
        assert state.settings in {None, self._settings}
        rows = self._terms.make('rows', tuple([row and term((row.owner, row.target, row.home)) for row in table.rows]))
        created = Count(('created', max((state.last_created - BASE) // _MICROSECOND, 0)))
        return self._terms.make(
            'space',
            (
                term(state.timeline), state.settings is not None, term(state.revision), term(state.version),
                term(state.leadership), term(state.nodes), created, Count(('revision', state.locks_revision)),
                state.longest_timeout_sec,
                term(table.members), rows, term(table.pins), term(locks.by_task), locks.highest_id,
            ),
        )  # fmt: skip

    def _space(self, term: Term) -> MemorySpace:
        value = self._codec.value
        (timeline, has_settings, revision, version, leadership, nodes, created, locks_revision, longest, members, rows, pins,
         locks, highest) = term.parts  # fmt: skip
        by_age = sorted(value(nodes).items(), key=lambda item: item[1].created_on)
        version = value(version)
        state = NamespaceState(
            timeline=value(timeline),
            settings=self._settings if has_settings else None,
            revision=value(revision),
            version=version,
            leadership=value(leadership),
            nodes=dict(by_age),
            last_created=BASE + created[1] * _MICROSECOND,
            locks_revision=locks_revision[1],
            longest_timeout_sec=longest,
        )
        table = AssignmentTable(
            version=version,
            members=value(members),
            rows=[row and self._row(row) for row in rows.parts],
            pins=value(pins),
            builds_on=(INITIAL if version == INITIAL else version,),
        )
        return MemorySpace(state, table, LockTable(value(locks), highest))

    def _row(self, term: Term) -> SharedRow:
        """Return the one row with these values: tokens of one row share it."""
        owner, target, home = term.parts
        return _ROWS.setdefault((owner, target, home), SharedRow(owner, target, home, 0, 0))
