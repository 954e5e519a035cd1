"""Task locks and items: a chunked log of those that were put and removed."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from jobsync.backend import LockEdit, LockReading, Revision, TaskLock, Unreadable, lock_key
from jobsync.backends._common.values import next_revision
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.chunked_log import LogEntry
from jobsync.backends.etcd.json_form import UNREADABLE, from_form, to_json
from jobsync.backends.etcd.packing import packed, unpacked
from jobsync.backends.etcd.reading import KeyReading
from jobsync.backends.etcd.store import EtcdStore, EtcdWrite
from jobsync.backends.single_writer import LockTable

__all__ = ['EtcdLocks', 'encoded']


def encoded(locks: Iterable[TaskLock | Any], gone: Iterable[str] = ()) -> bytes:
    """Return a record: the locks that were put, or the parsed JSON of a spoilt one, and the keys of those that were removed."""
    return packed(to_json([list(locks), list(gone)]))


@attrs.frozen
class LocksRead:
    """All task locks and items at one revision of the log."""

    revision: Revision
    locks: Mapping[str, TaskLock] = attrs.field(factory=dict)
    """By key. Never changed."""
    spoilt: Mapping[str, Any] = attrs.field(factory=dict)
    """The parsed JSON of records that are no locks, by key (rule R9), until another lock of this key is put, or removed."""
    problems: tuple[Unreadable, ...] = ()
    """Records of the log that cannot be read at all."""

    def table(self, highest_id: int = 0) -> LockTable:
        """Return the locks as a value that can be edited."""
        unreadable = {
            key: Unreadable('lock', key.rpartition('\0')[2], f'{reprlib.repr(form)} is no lock: it is left out')
            for key, form in self.spoilt.items()
        }
        return LockTable(self.locks, highest_id, unreadable)

    def after(self, entry: LogEntry, data: bytes | None) -> LocksRead:
        """Return the locks after one more record of the log."""
        try:
            put, gone = json.loads(unpacked(data or b'')) if entry.size else ((), ())
            forms = {lock_key(str(form.get('group', '')), str(form['task_id'])): form for form in put}
            over = forms.keys() | set(gone)
        except UNREADABLE as error:
            found = f'the record of revision {entry.number} cannot be read ({reprlib.repr(error)}): its locks are left out'
            return attrs.evolve(self, revision=entry.revision, problems=(*self.problems, Unreadable('lock', '', found)))
        locks = {key: lock for key, lock in self.locks.items() if key not in over}
        spoilt = {key: form for key, form in self.spoilt.items() if key not in over}
        for key, form in forms.items():
            try:
                locks[key] = from_form(TaskLock, form)
            except ValueError:
                spoilt[key] = form
        return LocksRead(entry.revision, locks, spoilt, self.problems)


class EtcdLocks:
    """Reads and edits the task locks. Thread-safe: what it remembers is one value, replaced as a whole."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self._last: LocksRead | None = None

    def at(self, reading: KeyReading, deadline: float) -> LocksRead:
        """Return the locks at the moment of a reading: those remembered, and the records since then."""
        log, last = reading.state.locks, self._last
        start = log.after(last.revision) if last and last.revision.number else 0
        found = last if last and start else LocksRead(log.entries[0].revision)
        entries = log.entries[start:]
        contents = self._store.records(self._store.keys.locks, entries, reading.at, deadline)
        for entry, data in zip(entries, contents, strict=True):
            found = found.after(entry, data)
        self._last = found
        return found

    def read_locks(self) -> LockReading:
        deadline = self._store.later()
        found = self._store.with_state(lambda reading: self.at(reading, deadline), deadline)
        reading = found.table().reading()
        return attrs.evolve(reading, unreadable=(*found.problems, *reading.unreadable))

    def edit_locks(self, edit: LockEdit) -> int:
        """See ``Backend.edit_locks``. A lock ends late rather than early: its end counts from the latest that the time may be."""
        store, keys, deadline = self._store, self._store.keys, self._store.later()
        store.read_time(deadline, until_sure=any(put.expires_in is not None for put in edit.put))

        def decide(reading: KeyReading) -> int | EtcdWrite[int]:
            state, before = reading.state, self.at(reading, deadline)
            # A process that is held up between two readings of the clock would have the lock end later by as much.
            revision, (now, latest) = next_revision(state.revision), store.time.bounds()
            table = before.table(state.highest_lock_id).edit(edit, now, revision.number, latest)
            gone = before.locks.keys() - table.by_task.keys()
            spoilt = {key: form for key, form in before.spoilt.items() if key in table.unreadable}
            mended = before.spoilt.keys() - spoilt.keys()
            if table.by_task == before.locks and not mended:
                # A write that says nothing is refused to a user who may not write, as any edit is, and where space is used up:
                # there etcd still deletes. `jobsync doctor` tries one.
                return EtcdWrite([], [requests.put(keys.nothing, b'')], 0)
            is_whole = state.locks.is_long or not (table.by_task or spoilt)
            if is_whole:
                draft = state.locks.draft_whole(keys.locks, encoded([*table.by_task.values(), *spoilt.values()]))
            else:
                put = (lock for key, lock in table.by_task.items() if lock != before.locks.get(key))
                draft = state.locks.draft(keys.locks, encoded(put, gone | mended))
            after = attrs.evolve(
                state,
                revision=revision,
                locks_revision=revision.number,
                locks=draft.appended(revision),
                highest_lock_id=table.highest_id,
            )
            # t=0  this handle reads the locks, in which task x has none, and draws the next id for one
            # t=1  another handle locks task x
            # t=2  this edit arrives: the state is not the one of t=0, so the edit is made anew from the present locks
            operations = [*store.put_state(after, ()), *draft.clean_up()]
            return EtcdWrite([reading.same(keys.state)], operations, len(gone), draft.records)

        return store.change([requests.get(keys.state)], decide, deadline)[0]
