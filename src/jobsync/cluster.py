"""``Cluster``: read and steer a cluster from outside, without joining it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import attrs

from jobsync import plugins
from jobsync._cluster import actions, events, rows
from jobsync._cluster.actions import user_at_host
from jobsync._cluster.explanation import explain, place_of
from jobsync._cluster.forecast import forecast
from jobsync._cluster.names import schedule_of
from jobsync._cluster.reading import ClusterReader, ClusterReading
from jobsync._cluster.settings import fewest_attempts
from jobsync._cluster.task_history import REBALANCES_READ, read_task_history
from jobsync._core.counting import counted
from jobsync._core.records import DRAINED, Audit, Claim, HistoryKind, LockEdit, LockFilter, LockRequest, NodeState, Rebalance
from jobsync._core.redact import cut_repr, listed
from jobsync._worker.attempts import quarantined_rows
from jobsync._worker.history import task_row
from jobsync._worker.purging import purge_history
from jobsync._worker.task_locks import lock_request
from jobsync.backend import Backend, BackendInfo, Space
from jobsync.config import CoordinationConfig, checks
from jobsync.errors import ConfigError, JobsyncError
from jobsync.rows import (
    ClusterNode,
    ClusterStatus,
    EventRow,
    Explanation,
    Forecast,
    HandOver,
    ItemRow,
    LockRow,
    QuarantinedRow,
    RebalanceRow,
    TaskRow,
)
from jobsync.task import key_of

__all__ = ['Cluster']


class Cluster:
    """A cluster as an observer sees it. It joins nothing, leads nothing, and needs no settings but the store's URL.

    Every method reads the store anew. Times are by the store's clock. The state may have changed by the time it is shown, so do
    not decide by it which node works on a task. That is what ``Job.can_claim_task`` is for.

    Besides the errors that a method lists, each call to the store raises ``SchemaMismatch`` if the namespace does not exist, or
    belongs to another version, ``BackendUnavailable`` if the store does not answer, and ``ConfigError`` if the store refuses the
    user or the rights of the user.

    Args:
        backend: The URL of the store, or a backend.
        appname: The namespace. None: ``sync_``.
        op_timeout_sec: The longest duration of one call to the store.
        bulk_timeout_sec: The longest duration of a call that carries many records.

    Attributes:
        appname: The namespace.

    Raises:
        ConfigError: An argument is not allowed.
        BackendNotFound: No backend can be used for the URL.
    """

    def __init__(
        self,
        backend: str | Backend,
        appname: str | None = None,
        *,
        op_timeout_sec: float = 5,
        bulk_timeout_sec: float = 60,
    ) -> None:
        config = CoordinationConfig(
            backend=backend, appname=appname, op_timeout_sec=op_timeout_sec, bulk_timeout_sec=bulk_timeout_sec
        )
        if backend is None:  # which a configuration may leave open
            raise ConfigError('backend is None: must be a URL or a backend')
        self._owns_backend = isinstance(backend, str)
        self._backend = plugins.connect(backend, config.options) if isinstance(backend, str) else backend
        self._reader = ClusterReader(self._backend)
        self.appname = config.options.namespace

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A backend that was given stays open."""
        if self._owns_backend:
            self._backend.close()

    @property
    def info(self) -> BackendInfo:
        """What the backend declares about its store."""
        return self._backend.info

    def space(self) -> Space | None:
        """Return how much of its quota the store uses; None for a store without such a quota, as all are except etcd."""
        backend: Any = self._backend
        return backend.read_space() if backend.info.space else None

    def namespaces(self, limit: int = 20) -> list[str] | None:
        """Return the names of the namespaces in the store, sorted; None for a store that does not list them.

        Stores have them in lower case. On a Redis with very many keys, also of other programs, some may be left out.

        Args:
            limit: How many at most.

        Raises:
            ConfigError: An argument is not allowed, or this user may not list them.
            SchemaMismatch: There is no database.
        """
        checks.rows.of('limit', limit)
        backend: Any = self._backend
        return cast('list[str]', backend.read_namespaces(limit)) if backend.info.namespaces else None

    # --- reading ------------------------------------------------------------------------------------------------------------

    def status(self) -> ClusterStatus:
        """Return the cluster at a glance, with what needs attention."""
        return rows.status(self._reader.read())

    def nodes(self) -> list[ClusterNode]:
        """Return every node's record with its load, oldest first."""
        return rows.node_rows(self._reader.read())

    def hand_overs(self) -> list[HandOver]:
        """Return the hand-overs under way, one for each pair of nodes."""
        return rows.hand_overs(self._reader.read())

    def locks(self) -> list[LockRow]:
        """Return every task lock, by ``token_id``."""
        reading = self._reader.read()
        return rows.lock_rows(reading.locks.locks, reading.settings.total_tokens, reading.assignment.pin_of)

    def items(self, group: str | None = None) -> list[ItemRow]:
        """Return the items of a group, with their owners, by group and id.

        Args:
            group: The name of the group. None: all groups.

        Raises:
            ConfigError: An argument is not allowed.
        """
        if group is not None:
            checks.group.of('group', group)
        reading = self._reader.read()
        return rows.item_rows(reading.locks.locks, reading.pin_of, group)

    def tokens(self) -> Mapping[str, Sequence[int]]:
        """Return the hash tokens of each node that owns any, those being handed over included."""
        reading = self._reader.read()
        gone = reading.gone
        return {name: tokens for name, tokens in reading.assignment.by_owner().items() if name not in gone}

    def owner_of(self, task: object) -> str | None:
        """Return the name of the node that owns the task; None if no node does.

        Args:
            task: A ``Task`` or a bare id.

        Raises:
            ConfigError: The id cannot be a task's.
        """
        key = key_of(task)
        reading = self._reader.read(key)
        owner = place_of(reading, key).owner
        return None if owner in reading.gone else owner

    def why(self, task: object, date: dt.date | None = None) -> Explanation:
        """Return who may do a task, since when and why, or what stands in the way.

        Args:
            task: A ``Task`` or a bare id.
            date: The date of the work. None: today.

        Raises:
            ConfigError: An argument is not allowed.
        """
        key, day = key_of(task), checks.day_of_work(date)
        reading = self._reader.read(schedule_of(key) or key)
        history = read_task_history(self._backend, reading, key, day)
        claims, audits = map(task_row, history.claims), map(task_row, history.audits)
        found = events.of_task(reading, key, claims, audits, list(map(_rebalance_row, history.rebalances)))
        return attrs.evolve(explain(reading, key, history), history=tuple(found))

    def plan(self, add: Mapping[str, float] | Iterable[str] = (), remove: Collection[str] = ()) -> Forecast:
        """Return what would move if nodes came or went. Commits nothing.

        Args:
            add: The names of nodes that would join; or a mapping with their weights, which are 1 otherwise.
            remove: The names of nodes that would leave.

        Raises:
            ConfigError: A weight is not allowed, a node to remove is not at work, or no node would be left to own the tokens.
        """
        weights: dict[str, Any] = {}
        for name in checks.names.of('add', add):
            weights[checks.node_name.of('add', name)] = checks.weight.of('weight', add[name] if isinstance(add, Mapping) else 1.0)
        leaving = [checks.node_name.of('remove', name) for name in checks.names.of('remove', remove)]
        reading = self._reader.read()
        for name in leaving:
            if name not in reading.live:
                raise ConfigError(
                    f'remove is {cut_repr(name)}: must be a node at work: {listed(reading.live) or "there is none"}'
                )
        return forecast(reading, weights, leaving)

    # --- history ------------------------------------------------------------------------------------------------------------

    def claims(self, limit: int | None = 100, date: dt.date | None = None, task: object = None) -> list[TaskRow]:
        """Return claims, newest first.

        Args:
            limit: How many at most. None: all.
            date: The date of the work. None: every date.
            task: A ``Task`` or a bare id. None: every task.

        Raises:
            ConfigError: An argument is not allowed.
        """
        return self._task_rows(HistoryKind.CLAIM, limit, date, task)

    def audits(self, limit: int | None = 100, date: dt.date | None = None, task: object = None) -> list[TaskRow]:
        """Return completions, newest first.

        Args:
            limit: How many at most. None: all.
            date: The date of the work. None: every date.
            task: A ``Task`` or a bare id. None: every task.

        Raises:
            ConfigError: An argument is not allowed.
        """
        return self._task_rows(HistoryKind.AUDIT, limit, date, task)

    def incomplete(self, older_than: dt.timedelta | float = 0, date: dt.date | None = None) -> list[TaskRow]:
        """Return the newest claim of each task that was begun and not completed, oldest first.

        Args:
            older_than: How long ago the tasks were begun at least; a number is seconds.
            date: The date of the work. None: every date.

        Raises:
            ConfigError: An argument is not allowed.
        """
        return [task_row(claim) for claim in self._backend.incomplete(checks.optional_date(date), checks.age(older_than))]

    def quarantined(self, attempts: int | None = None, date: dt.date | None = None) -> list[QuarantinedRow]:
        """Return the tasks at which at least so many workers were lost, the worst first.

        Args:
            attempts: How many. None: the lowest ``max_attempts`` of the nodes at work, or of the last that were at work if none
                is now, or 3 if no such node has set it.
            date: The date of the work. None: today.

        Raises:
            ConfigError: An argument is not allowed.
        """
        day = checks.day_of_work(date)
        least = (fewest_attempts(self._reader.read()) or 3) if attempts is None else checks.attempts.of('attempts', attempts)
        return quarantined_rows(self._backend.lost_attempts(day, least))

    def rebalances(self, limit: int | None = 20) -> list[RebalanceRow]:
        """Return the commits that changed owners, or by which a node went, newest first.

        Args:
            limit: How many at most. None: all.

        Raises:
            ConfigError: An argument is not allowed.
        """
        found = self._backend.history(HistoryKind.REBALANCE, limit=checks.limit.of('limit', limit))
        return [_rebalance_row(cast('Rebalance', row)) for row in found]

    def history(self, task: object = None, limit: int = 100) -> list[EventRow]:
        """Return what has happened, newest first, with what operators have done and who.

        The history of the cluster has its rebalances, and the last 20 changes of its leader, whether or not tokens moved. The
        history of a task has its claims and completions of all dates, its task lock, and since when its present owner has it. A
        store keeps only the last move of a token: earlier owners show in the claims. What operators have done is kept for a year,
        about the newest 2,000 actions.

        Args:
            task: A ``Task`` or a bare id. None: the cluster.
            limit: How many events at most.

        Raises:
            ConfigError: An argument is not allowed.
        """
        checks.rows.of('limit', limit)
        rebalances = self.rebalances(REBALANCES_READ if task is not None else limit)
        if task is None:
            return events.of_cluster(self._backend.read_locks().locks, rebalances)[:limit]
        key = key_of(task)
        claims, audits = self.claims(limit, task=task), self.audits(limit, task=task)
        return events.of_task(self._reader.read(schedule_of(key) or key), key, claims, audits, rebalances)[:limit]

    def _task_rows(self, kind: HistoryKind, limit: int | None, date: dt.date | None, task: object) -> list[TaskRow]:
        item = None if task is None else key_of(task)
        day = checks.optional_date(date)
        found = self._backend.history(kind, limit=checks.limit.of('limit', limit), date=day, item=item)
        return [task_row(cast('Claim | Audit', row)) for row in found]

    # --- steering -----------------------------------------------------------------------------------------------------------

    def add_lock(
        self,
        task: object,
        node_pattern: str | Sequence[str],
        reason: str | None = None,
        expires_in_days: float | None = None,
        *,
        actor: str | None = None,
    ) -> None:
        """Lock a task to the nodes that match a pattern, in place of the lock that the task has.

        Args:
            task: A ``Task`` or a bare id.
            node_pattern: A SQL ``LIKE`` pattern of node names, or several in order. The first one that any live node matches
                is in force.
            reason: Text for people.
            expires_in_days: After how many days the lock ends. None: never.
            actor: Who does it, for the history, the list of locks and ``clear_locks``. None: user@host of this process.

        Raises:
            ConfigError: An argument is not allowed.
        """
        request = lock_request(self._actor(actor), task, node_pattern, reason, expires_in_days)
        actions.read_first('lock', self._backend.snapshot)
        with actions.attempt('lock'):
            self._backend.edit_locks(LockEdit(put=(request,)))
        self._record(
            request.created_by, 'lock', [request.task_id], f'to {", ".join(request.patterns)}' + (f', {reason}' if reason else '')
        )

    def clear_locks(self, tasks: Iterable[object] | None = None, creator: str | None = None, *, actor: str | None = None) -> int:
        """Remove task locks: those of some tasks, those that a node has registered, or, with neither given, all.

        Args:
            tasks: ``Task`` objects or bare ids.
            creator: The name of the node.
            actor: Who does it, for the history. None: user@host of this process.

        Returns:
            How many locks were removed.

        Raises:
            ConfigError: An argument is not allowed.
        """
        who = self._actor(actor)
        keys = None if tasks is None else frozenset(map(key_of, checks.task_ids.of('tasks', tasks)))
        created_by = None if creator is None else checks.creator.of('creator', creator)
        actions.read_first('clear locks', self._backend.snapshot)
        with actions.attempt('clear locks'):
            removed = self._backend.edit_locks(LockEdit(remove=LockFilter(created_by=created_by, task_ids=keys)))
        if removed:
            which = f' of {created_by}' if created_by else ' of all' if keys is None else ''
            self._record(who, 'clear locks', sorted(keys or ()), f'{counted(removed, "lock")}{which} removed')
        return removed

    def purge(
        self,
        *,
        before: dt.datetime | None = None,
        older_than: dt.timedelta | float | None = None,
        kinds: Collection[str] = checks.KINDS,
        actor: str | None = None,
    ) -> dict[str, int]:
        """Delete old claims, audits and rebalances of all nodes and dates, in portions that keep no other call waiting.

        Incomplete work stays: a claim is deleted only if its task is complete, and an audit only after the claims of its task.
        A task whose audit is deleted is not known to be complete any more: ``Job.batch`` for its date would do the task again.

        Args:
            before: Delete what was recorded earlier, by the store's clock. Has a timezone.
            older_than: In place of ``before``: delete what was recorded longer ago; a number is seconds.
            kinds: What to delete: ``'claim'``, ``'audit'``, ``'rebalance'``, or several of them.
            actor: Who does it, for the history. None: user@host of this process.

        Returns:
            How many records of each kind were deleted.

        Raises:
            ConfigError: An argument is not allowed, or neither or both of ``before`` and ``older_than`` are given.
            BackendUnavailable: The store does not answer. What was deleted until then is deleted.
        """
        return purge_history(self._backend, lambda action: action(), self._actor(actor), before, older_than, kinds)

    def release(self, tasks: Iterable[object], date: dt.date | None = None, *, actor: str | None = None) -> None:
        """Allow tasks in quarantine to be claimed again, with no attempt counted.

        Args:
            tasks: ``Task`` objects or bare ids.
            date: The date of the work. None: today.
            actor: Who does it, for the history. None: user@host of this process.

        Raises:
            ConfigError: An id cannot be a task's.
        """
        who, day = self._actor(actor), checks.day_of_work(date)
        keys = list(map(key_of, checks.task_ids.of('tasks', tasks)))
        actions.read_first('release', self._backend.snapshot)
        with actions.attempt('release'):
            self._backend.forget_attempts(keys, day)
        self._record(who, 'release', keys, f'for {day}')

    def drain(self, node: str, reason: str | None = None, *, actor: str | None = None, force: bool = False) -> None:
        """Have a node give up everything it owns, in good order, and be given nothing until ``undrain``, also after a restart.

        It stays a member. A node of this name that joins later is drained from the start.

        Args:
            node: The node's name.
            reason: Text for people.
            actor: Who does it, for the history. None: user@host of this process.
            force: Drain it even if no other node at work could own its tokens. Then no node owns them.

        Raises:
            ConfigError: An argument is not allowed; or no other node could own the tokens, and ``force`` is False.
        """
        who = self._actor(actor)
        checks.node_name.of('node', node)
        checks.reason.of('reason', reason)
        checks.flag.of('force', force)
        reading = actions.read_first('drain', self._reader.read)
        is_drained = node in reading.drained
        remark = 'it is drained already' if is_drained else 'force=True, or --force, drains it all the same'
        refusal = ConfigError(f'node is {cut_repr(node)}: no other node at work could own its tokens ({remark})')
        if not force and _is_last(reading, node):
            raise refusal
        with actions.attempt('drain'):
            self._backend.edit_locks(LockEdit(put=(LockRequest(node, ('%',), who, reason),), group=DRAINED))
        self._record(who, 'drain', [node], reason)
        # t=0  a and b are at work; one operator is to drain a, another b, and each reads that the other node is left
        # t=1  both are drained, and no node would own anything
        if force or is_drained:
            return
        try:
            is_last = _is_last(self._reader.read(), node)
        except (JobsyncError, KeyboardInterrupt) as error:
            words = 'drain was carried out, and whether another node is left to own the tokens is not known'
            error.args = (f'{words}: {actions.reason_of(error)}',)
            raise
        if not is_last:
            return
        try:
            self.undrain(node, actor=who)
        except (JobsyncError, KeyboardInterrupt) as error:
            words = 'drain was carried out, and no other node at work could own the tokens'
            error.args = (f'{words}: {actions.reason_of(error)}',)
            raise
        raise refusal

    def undrain(self, node: str, *, actor: str | None = None) -> bool:
        """Let a node own tokens again.

        Args:
            node: The node's name.
            actor: Who does it, for the history. None: user@host of this process.

        Returns:
            Whether it was drained.

        Raises:
            ConfigError: An argument is not allowed.
        """
        who, name = self._actor(actor), checks.node_name.of('node', node)
        actions.read_first('undrain', self._backend.snapshot)
        with actions.attempt('undrain'):
            removed = self._backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({name})), group=DRAINED))
        if removed:
            self._record(who, 'undrain', [name])
        return bool(removed)

    def evict(self, node: str, reason: str | None = None, *, actor: str | None = None, incarnation: str | None = None) -> float:
        """End the membership of a node that does not end it itself: remove its record.

        No task has two owners by this. The process may still be at work, so its tokens stay where they are until its lease has
        ended: the leader gives them to other nodes after the node's heartbeat timeout. If the process is alive, it stops claiming
        at its next heartbeat, and joins anew with what it owned. To keep it from that, stop it, or drain it.

        Args:
            node: The node's name.
            reason: Text for people.
            actor: Who does it, for the history. None: user@host of this process.
            incarnation: The run that is meant, as ``nodes`` has it. None: the one that is registered.

        Returns:
            The node's heartbeat timeout, in seconds.

        Raises:
            ConfigError: An argument is not allowed, no node of this name is registered, or it has joined anew.
        """
        who, name = self._actor(actor), checks.node_name.of('node', node)
        checks.reason.of('reason', reason)
        checks.incarnation.of('incarnation', incarnation)
        snapshot = actions.read_first('evict', self._backend.snapshot)
        records = {record.name: record for record in snapshot.nodes if record.state is NodeState.JOINED}
        if name in records and incarnation not in (None, records[name].incarnation):
            what = f'anew, the run {cut_repr(incarnation)} is over' if incarnation else 'meanwhile'
            raise ConfigError(f'node is {cut_repr(name)}: has joined {what}')
        with actions.attempt('evict'):
            is_evicted = name in records and self._backend.remove_node(records[name].ref)
        if not is_evicted:
            raise ConfigError(
                f'node is {cut_repr(name)}: must be a registered node: {listed(records.keys() - {name}) or "there is none"}'
            )
        self._record(who, 'evict', [name], reason)
        return records[name].timeout_sec

    def _actor(self, actor: str | None) -> str:
        return user_at_host() if actor is None else checks.actor.of('actor', actor)

    def _record(self, actor: str, action: str, subjects: Collection[str], reason: str | None = None) -> None:
        actions.record(self._backend, actor, action, subjects, reason)


def _is_last(reading: ClusterReading, node: str) -> bool:
    """Return whether no other node at work could own what the node owns."""
    return not reading.live.keys() - reading.idle.keys() - {node}


def _rebalance_row(row: Rebalance) -> RebalanceRow:
    return cast('RebalanceRow', attrs.asdict(row))
