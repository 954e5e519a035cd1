"""``jobsync doctor``: is this store fit for a cluster, and is this cluster in order."""

from __future__ import annotations

import datetime as dt
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import attrs
import click
from rich.filesize import decimal
from rich.text import Text

from jobsync._core.counting import counted
from jobsync._core.records import LockEdit, LockFilter
from jobsync._core.redact import cut_repr
from jobsync.backend import Reach
from jobsync.cli.blockers import examine_blockers
from jobsync.cli.common import ATTENTION, absence, other_namespaces, reading_command, with_kind
from jobsync.cli.folders import DoctorFinding, examine_folders
from jobsync.cli.grants import missing_grants
from jobsync.cli.output import age, console, plain, print_json
from jobsync.cli.steering import orphans
from jobsync.cluster import Cluster
from jobsync.errors import ConfigError, JobsyncError, SchemaMismatch
from jobsync.rows import ClusterNode, ClusterStatus

__all__ = ['doctor', 'examine']

_READINGS = 5
_SLOW_SHARE = 0.25
"""A call that takes more than this share of the shortest lease is too slow."""
_CLOCK_SEC = 5.0
"""How far this machine's clock may be from the store's before it is mentioned."""
_MOST_USED, _MOST_KEPT, _MOST_UNTRIMMED = 0.8, 0.5, 0.1
"""Shares of the quota that all records may fill, and old versions of them: where some were deleted before, and where none was."""
_REBALANCES, _CALM, _CALM_LEADERS = 200, 20, 2
"""How many rebalances are read; how many, and how many changes of the leader, are not remarkable within an hour."""
_MOST_PROBLEMS = 20
"""How many problems of a cluster are findings: when all of very many nodes are silent, no other finding would be seen."""
_MOST_TASKS = 3
"""How many of the tasks that have been in hand for long are named."""
_ALARMS = {
    'NOSPACE': 'no write succeeds until the store is compacted and defragmented, and the alarm is disarmed '
    '(etcdctl alarm disarm)',
    'CORRUPT': 'no write succeeds, because the data of a member are not those of the others: find it by etcdctl endpoint hashkv '
    '--cluster, remove it, add it anew with an empty folder, and disarm the alarm (etcdctl alarm disarm)',
}
"""The alarms of etcd, and what to do about them."""
_STYLES = {'ok': 'green', 'warn': 'bold yellow', 'bad': 'bold red'}


@click.command()
@reading_command
def doctor(cluster: Cluster, as_json: bool) -> None:
    """Check whether the store is fit, and the cluster in order. Joins nothing, changes nothing.

    The exit status is 0 if all is well, and 3 if something needs attention.
    """
    findings, place = list[DoctorFinding](), console()
    for finding in examine(cluster):
        findings.append(finding)
        if not as_json:  # at once: a store that keeps a call waiting does so for a minute
            verdict = (f'{finding.verdict:5}', _STYLES[finding.verdict])
            line = Text.assemble(verdict, plain(f'{finding.subject:12} {finding.words}'))
            place.print(line, soft_wrap=not place.is_terminal)  # in a file each is one line, however long
            place.file.flush()
    if as_json:
        print_json([attrs.asdict(finding) for finding in findings])
    sys.exit(0 if all(finding.verdict == 'ok' for finding in findings) else ATTENTION)


def examine(cluster: Cluster) -> Iterator[DoctorFinding]:
    """Yield each finding about a store and the cluster in it, as soon as it is known."""
    info = cluster.info
    durable = 'keeps what it has confirmed' if info.durable else 'may lose confirmed records in a crash'
    push = 'announces changes' if info.push else 'is polled, which makes a hand-over slower'
    if info.push and info.reach is Reach.NETWORK:
        push += ', which some proxies keep back: a worker that has to poll says so in its log'
    yield DoctorFinding('ok', 'store', f'{info.name}: {durable}; {push}; at most {info.max_tokens:,} tokens')
    try:
        nodes = cluster.nodes()  # connects, and on etcd may watch the nodes first: no part of how long a reading takes
        epochs = list[int]()
        took = sorted(_timed(lambda: epochs.append(cluster.status()['epoch'])) for _ in range(_READINGS))
        status = cluster.status()
    except JobsyncError as error:
        hint = absence(cluster) if isinstance(error, SchemaMismatch) else ''
        yield DoctorFinding('bad', 'reach', f'{with_kind(error)}{hint and "; "}{hint}')
        yield from examine_blockers(cluster, is_refused=True)
        yield from examine_folders(cluster, ())
        return
    typical, worst = took[_READINGS // 2], took[-1]
    leases = [node['timeout_sec'] for node in nodes if node['state'] != 'left']
    words = f'a reading takes {1000 * typical:.0f} ms, the slowest of {_READINGS} {1000 * worst:.0f} ms'
    if leases and worst > _SLOW_SHARE * min(leases):
        yield DoctorFinding('warn', 'latency', f'{words}: more than a quarter of the shortest timeout, {min(leases):g} s')
    else:
        yield DoctorFinding('ok', 'latency', words)
    # First where nodes are silent: what keeps them waiting keeps the write of this command waiting too, for a minute.
    blockers = list(examine_blockers(cluster, is_silent=True)) if status['silent'] else []
    yield from blockers
    rights = _rights(cluster)
    yield rights
    if not blockers:
        yield from examine_blockers(cluster, is_refused=rights.verdict == 'bad')
    yield from _tried('clocks', _clock(cluster))
    if times := status['timeline']:
        words = f'the store has gone back in time, or total_tokens or hash_function was changed ({counted(times, "time")})'
        yield DoctorFinding('warn', 'history', f'{words}: see the page on trouble')
    for problem in status['problems'][:_MOST_PROBLEMS]:
        yield DoctorFinding('warn', 'cluster', problem)
    if (more := len(status['problems']) - _MOST_PROBLEMS) > 0:
        yield DoctorFinding('warn', 'cluster', f'and {counted(more, "more problem")}: jobsync status --json')
    if not status['problems']:
        tokens = counted(status['total_tokens'], 'token', spec=',')
        words = f'{counted(status["nodes"], "node")}, leader {status["leader"]}, {status["total_tokens"]:,} of {tokens} owned'
        yield DoctorFinding('ok', 'cluster', words)
    if (changes := status['epoch'] - epochs[0]) > 0:
        words = f'has changed {counted(changes, "time")} while this command ran: status --watch counts on'
        yield DoctorFinding('warn', 'leader', words)
    if others := other_namespaces(cluster):
        words = f'others are in this store, whose workers share no tasks with those of {cluster.appname!r}: {others}'
        yield DoctorFinding('ok', 'namespaces', words)
    yield from _tried('locks', _orphaned(cluster))
    yield from _tried('space', _space(cluster, nodes))
    yield from examine_folders(cluster, nodes)
    yield from _tried('rebalances', _unrest(cluster, status))
    yield from _tried('tasks', _held_up(cluster))


def _tried(subject: str, findings: Iterator[DoctorFinding]) -> Iterator[DoctorFinding]:
    """Yield findings; one that says why there are none, where what they need cannot be read: by this user, or any more."""
    try:
        yield from findings
    except JobsyncError as error:
        yield DoctorFinding('warn', subject, with_kind(error))


def _held_up(cluster: Cluster) -> Iterator[DoctorFinding]:
    """Yield how many tasks have been in hand for long, and the oldest of them."""
    if held_up := cluster.incomplete(older_than=3600):
        oldest = ', '.join(f'{cut_repr(row["item"])} by {row["node"]!r}' for row in held_up[:_MOST_TASKS])
        words = f'begun over an hour ago and not complete: {counted(len(held_up), "task")}, the oldest of them {oldest}'
        yield DoctorFinding('warn', 'tasks', f'{words}: jobsync incomplete --older-than 3600')
    else:
        yield DoctorFinding('ok', 'tasks', 'none was begun over an hour ago and is not complete')


def _orphaned(cluster: Cluster) -> Iterator[DoctorFinding]:
    """Yield how many task locks are left of which nodes. Not a fault: a program that has ended may have made them on purpose."""
    left = Counter(lock['created_by'] for lock in orphans(cluster))
    words = ', '.join(f'{count} of {name!r}' for name, count in left.most_common(3))
    yield DoctorFinding('ok', 'locks', f'left of nodes that are not registered any more: {words or "none"}')


def _space(cluster: Cluster, nodes: Sequence[ClusterNode]) -> Iterator[DoctorFinding]:
    """Yield a finding about the space of a store that keeps old versions: each heartbeat makes one."""
    if (space := cluster.space()) is None:
        return
    intervals = [node['settings'].get('heartbeat_interval_sec') for node in nodes if node['state'] == 'joined']
    beats_an_hour = sum(3600 / interval for interval in intervals if isinstance(interval, (int, float)) and interval > 0)
    kept, added = space.versions * space.heartbeat_bytes, beats_an_hour * space.heartbeat_bytes
    quota = f'{"the usual quota of " if space.is_assumed else ""}{decimal(space.quota_bytes)}'
    words = f'{decimal(space.used_bytes)} of {quota} are used; heartbeats add {decimal(round(added))} an hour'
    if beats_an_hour:
        words += f', and old versions of {space.versions / beats_an_hour:.1f} hours of them are kept'
    hint = 'run etcd with --auto-compaction-mode=periodic and a --auto-compaction-retention that fits: see the page on etcd'
    if space.alarms:
        reported = ', '.join(alarm.strip() for alarm in space.alarms)
        rest = ''.join(f': {what_to_do}' for alarm, what_to_do in _ALARMS.items() if alarm in reported)
        yield DoctorFinding('bad', 'space', f'{words}; the store reports {reported}{rest}')
    elif space.used_bytes > _MOST_USED * space.quota_bytes:
        yield DoctorFinding('warn', 'space', f'{words}: a full store refuses every write; compact and defragment it')
    elif kept > _MOST_KEPT * space.quota_bytes:
        yield DoctorFinding('warn', 'space', f'{words}: these fill more than half of the quota; {hint}')
    elif not space.is_trimmed and kept > _MOST_UNTRIMMED * space.quota_bytes:
        yield DoctorFinding('warn', 'space', f'{words}: none was ever deleted; {hint}')
    else:
        yield DoctorFinding('ok', 'space', words)


def _unrest(cluster: Cluster, status: ClusterStatus) -> Iterator[DoctorFinding]:
    """Yield a finding if tokens have moved, or leaders changed, more often in the last hour than deployments explain."""
    begin = status['now'] - dt.timedelta(hours=1)
    recent = [row for row in cluster.rebalances(_REBALANCES) if row['triggered_at'] > begin]
    if len(recent) > _CALM:
        reasons = Counter(row['trigger_reason'] for row in recent).most_common(3)
        words = ', '.join(f'{reason} ({counted(count, "time")})' for reason, count in reasons)
        yield DoctorFinding('warn', 'rebalances', f'{len(recent)} in the last hour: {words}')
    known = status['leader_changes']
    changes = sum(row['since'] > begin and row['epoch'] > 1 for row in known)
    if changes > _CALM_LEADERS:
        more = 'at least ' if changes == len(known) else ''
        leaders = [row['leader'] for row in known[: changes + 1]][4::-1]
        yield DoctorFinding(
            'warn', 'leader', f'has changed {more}{counted(changes, "time")} in the last hour: {", ".join(leaders)}'
        )


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _rights(cluster: Cluster) -> DoctorFinding:
    """Return whether the store accepts a write, by one that changes nothing: it clears the lock of a task that there is not.

    A user who may write this may lack the right to write claims or heartbeats, which a worker with the same URL would lack too.
    """
    try:
        # No method of ``Cluster``: an error of those says of a store that does not answer what may have been carried out.
        cluster._backend.edit_locks(LockEdit(LockFilter(task_ids=frozenset({uuid.uuid4().hex}))))
    except ConfigError as error:
        return DoctorFinding('ok', 'rights', f'this user may read, and not steer: {error}')
    except JobsyncError as error:
        return DoctorFinding('bad', 'rights', f'the store answers, and accepts no write: {error}')
    if grants := missing_grants(cluster):
        words = f'this user may read and steer, and lacks what a worker needs; if workers use the same user: {grants}'
        return DoctorFinding('warn', 'rights', words)
    return DoctorFinding('ok', 'rights', 'this user may read and steer')


def _clock(cluster: Cluster) -> Iterator[DoctorFinding]:
    started = dt.datetime.now(dt.UTC)
    now = cluster.status()['now']
    # The store has read its clock at some time of the call, which may have taken long.
    nearest = min(max(now, started), dt.datetime.now(dt.UTC))
    off = (now - nearest).total_seconds()
    if abs(off) > _CLOCK_SEC:
        behind = 'behind' if off > 0 else 'ahead of'
        words = f"this machine's clock is {age(abs(off))} {behind} the store's; ownership does not depend on them"
        yield DoctorFinding('warn', 'clocks', words)
    else:
        yield DoctorFinding('ok', 'clocks', "this machine's clock and the store's agree")
