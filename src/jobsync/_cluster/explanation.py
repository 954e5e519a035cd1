"""Why a task is or is not worked on, from one reading of the cluster and the task's history."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import attrs

from jobsync._cluster.actions import people
from jobsync._cluster.names import is_schedule, is_singleton, schedule_of
from jobsync._cluster.reading import ClusterReading
from jobsync._cluster.settings import fewest_attempts
from jobsync._core.agent.settings_comparison import settings_of
from jobsync._core.counting import counted
from jobsync._core.hashing import tokenizer
from jobsync._core.leader.pins import in_force
from jobsync._core.patterns import choose
from jobsync._core.records import NOBODY, Audit, Claim, Node, NodeState, Pin, Rebalance, TaskLock
from jobsync._core.redact import listed
from jobsync.rows import Explanation

__all__ = ['TaskHistory', 'TaskPlace', 'explain', 'holder_of', 'place_of', 'token_of']


@attrs.frozen
class TaskHistory:
    """What the store has recorded of one task at one date, and of the cluster's rebalances, each newest first."""

    claims: Sequence[Claim]
    audits: Sequence[Audit]
    rebalances: Sequence[Rebalance]
    lost_attempts: int
    """How many workers were lost at the task."""
    in_hand: Sequence[Claim]
    """What keeps the task's owner from handing its token over: the tasks of this token that the owner has begun and not ended."""
    date: dt.date
    """The date of all this."""


@attrs.frozen
class TaskPlace:
    """Where the task's token or pin is."""

    token: int
    owner: str | None
    target: str | None
    version: int
    home: str | None
    """The node that lost it by leaving or dying, and is to have it again if it comes back."""
    is_absent: bool
    pin: Pin | None
    lock: TaskLock | None


def explain(reading: ClusterReading, key: str, history: TaskHistory) -> Explanation:
    """Return the explanation of a task, given by its key."""
    schedule = schedule_of(key)
    place = place_of(reading, schedule or key)
    is_claimable, verdict = _verdict(reading, place, history)
    obstacles = [] if is_claimable else [verdict]
    limit = fewest_attempts(reading)
    if limit is not None and history.lost_attempts >= limit:
        is_claimable = False
        verdict = (
            f'Not claimable: it is in quarantine, since {counted(history.lost_attempts, "worker was", "workers were")} lost at '
            'it. Release it with "jobsync quarantine release".'
        )
    if history.audits:
        first = history.audits[-1]
        verdict = f'It is complete: {first.node!r} recorded it at {first.created_on:%Y-%m-%d %H:%M:%S} UTC.'
    details = [each for each in obstacles if each != verdict]
    details += _details(reading, place, history)
    details += _begun(reading, key, place, history, is_claimable=is_claimable) if schedule is None else _tick(schedule, history)
    return Explanation(
        task=key,
        token=place.token,
        is_pinned=place.pin is not None,
        owner=place.owner,
        target=place.target or None,
        version=place.version,
        is_claimable=is_claimable,
        is_complete=bool(history.audits),
        verdict=verdict,
        details=tuple(details),
    )


def token_of(reading: ClusterReading, key: str) -> int:
    """Return the id of the task's pin if it has one, else its hash token."""
    pin, settings = reading.assignment.pin_of.get(key), reading.settings
    return tokenizer(settings.hash_function, settings.total_tokens)(key) if pin is None else pin.id


def place_of(reading: ClusterReading, key: str) -> TaskPlace:
    """Return where the task's token or pin is."""
    assignment = reading.assignment
    pin = assignment.pin_of.get(key)
    lock = in_force(lock for lock in reading.locks.locks if lock.task_id == key and lock.is_policy).get(key)
    if pin is not None:
        return TaskPlace(pin.id, pin.owner, pin.target, pin.version, pin.home, False, pin, lock)
    token = token_of(reading, key)
    row = assignment.row(token)
    return TaskPlace(token, row.owner, row.target, row.version, row.home, row.absent, None, lock)


def _verdict(reading: ClusterReading, place: TaskPlace, history: TaskHistory) -> tuple[bool, str]:
    """Return whether a node may claim the task, and what to say of it."""
    if not reading.live:
        return False, 'Not claimable: no node is at work.'
    if place.owner is None:
        return False, _unowned(reading, place)
    node, member = reading.node(place.owner), reading.assignment.members.get(place.owner)
    if node is None or member is None or (node.incarnation != member.incarnation and member.incarnation not in node.replaces):
        return False, (
            f'Its owner {place.owner!r} has no record any more, and may still be working: its tokens wait until it has been '
            f'absent for its timeout of {member.timeout_sec if member else reading.snapshot.longest_timeout_sec:g} s.'
        )
    if node.state is NodeState.LEFT and reading.rejoin_grace_sec > 0 and not node.has_died:
        return False, (
            f'Its owner {place.owner!r} has left, and may have its tokens back for {reading.rejoin_grace_sec:g} s '
            '(rejoin_grace_sec): then the leader is to give them to other nodes.'
        )
    if node.state is NodeState.LEFT:
        return False, f'Its owner {place.owner!r} has left, and the leader is to give its tokens to other nodes.'
    if reading.is_silent(node):
        return False, (
            f'Its owner {place.owner!r} ({node.host}, pid {node.pid}) has been silent for {reading.silence_sec(node):.0f} s, and '
            f'its lease is over: the leader is to give its tokens to other nodes.'
        )
    if place.target is not None:
        return False, _moving(reading, place, node, history.in_hand)
    if node.seen != reading.snapshot.version and node.seen.number < place.version:
        return False, f'{place.owner!r} is to have it, and has not read the assignment that says so yet.'
    return True, f'{place.owner!r} may do it.'


def _unowned(reading: ClusterReading, place: TaskPlace) -> str:
    if place.pin is not None and place.lock is not None and place.target is None:
        bound, idle, live = place.lock.patterns, reading.idle, reading.live
        patterns = ', '.join(map(repr, bound))
        pattern, _ = choose(bound, live.keys() - idle.keys())
        if pattern is None and (matching := choose(bound, live.keys() & idle.keys())[1]):
            return (
                f'Not claimable: it is bound to {patterns}, and each live node that matches is to own nothing: '
                f'{listed(f"{name!r} is {idle[name]}" for name in matching)}. Let one own tokens again, start another one that '
                'matches, or clear the lock.'
            )
        if pattern is None:
            return (
                f'Not claimable: it is bound to {patterns}, and no live node matches. Start a node that does, or clear the lock. '
                f'Live nodes: {listed(live)}.'
            )
    if place.is_absent and reading.assignment.members:
        return 'Not claimable yet: the row of its token is missing, so its last owner may still have it. It waits one timeout.'
    if place.target:
        return f'Not claimable yet: {place.target!r} is to have it.'
    if (words := reading.nothing_given) and reading.live.keys() <= reading.idle.keys():
        return f'Not claimable: {words}. Let one own tokens again, or start another one.'
    return f'Not claimable yet: {words or "its token has no owner, and the leader is to give it to a node"}.'


def holder_of(reading: ClusterReading, key: str) -> Node | None:
    """Return the owner of a task if it is to hand the task's token or pin over, and is still busy with it."""
    place = place_of(reading, key)
    node = reading.node(place.owner)
    return node if place.target is not None and node is not None and place.token in node.holding else None


def _moving(reading: ClusterReading, place: TaskPlace, node: Node, in_hand: Sequence[Claim]) -> str:
    where = 'to be released' if place.target == NOBODY else f'being handed over to {place.target!r}'
    if place.token in node.holding:
        now = reading.snapshot.now
        tasks = ', '.join(f'at task {one.item!r} for {(now - one.created_on).total_seconds():.0f} s' for one in in_hand[:5])
        most = settings_of(node.settings).get('handover_timeout_sec')
        limit = 'handover_timeout_sec' if most is None else f'handover_timeout_sec, {most} s'
        return f'It is {where}, and {place.owner!r} is still busy with it{f", {tasks}" if tasks else ""} (at most {limit}).'
    if node.seen != reading.snapshot.version:
        return f'It is {where}, and {place.owner!r} has not acknowledged the present version yet.'
    return f'It is {where}; {place.owner!r} has released it.'


def _details(reading: ClusterReading, place: TaskPlace, history: TaskHistory) -> Iterator[str]:
    live = reading.live
    moved = next((row for row in history.rebalances if row.version == place.version), None)
    if place.owner is not None and moved is not None:
        yield f'{place.owner!r} has it since {moved.triggered_at:%Y-%m-%d %H:%M:%S} UTC ({moved.trigger_reason}).'
    elif place.owner is not None:
        yield f'{place.owner!r} has it since version {place.version}, of which no rebalance is on record.'
    owner = reading.node(place.owner)
    if owner is not None and owner.stalled and not history.audits:
        where = f'{owner.name!r} ({owner.host}, pid {owner.pid})'
        yield f'{where} makes no progress: its program may hang (progress_timeout_sec).'
    if place.home is not None and place.home not in live:
        yield f'{place.home!r} lost it by leaving or dying, and is to have it again if it comes back.'
    if place.lock is not None:
        patterns = ', '.join(map(repr, place.lock.patterns))
        why = f': {place.lock.reason}' if place.lock.reason else ''
        until = f', until {place.lock.expires_at:%Y-%m-%d %H:%M} UTC' if place.lock.expires_at else ''
        kind = f'an item of the group {place.lock.group!r}, for nodes that match' if place.lock.group else 'locked to'
        creator = place.lock.created_by
        is_gone = reading.node(creator) is None and creator not in people(reading.locks.locks)
        gone = ', which is not registered any more' if is_gone else ''
        yield f'It is {kind} {patterns}, by {creator!r}{gone}{until}{why}.'
        if place.pin is None and not place.lock.group and reading.ignores_locks:
            yield 'The leader ignores task locks: its locks_enabled is off.'
        elif place.pin is None:
            yield 'The leader has not placed it by that yet.'
    if history.lost_attempts and not history.audits:
        lost = [claim for claim in history.claims if claim.node not in live]
        nodes = ', '.join(f'{claim.node!r} began it at {claim.created_on:%H:%M:%S} UTC' for claim in lost[:5])
        yield f'Workers lost at it: {history.lost_attempts}{f" (not at work any more: {nodes})" if nodes else ""}.'
    if history.claims and not history.audits:
        last = history.claims[0]
        age = (reading.snapshot.now - last.created_on).total_seconds()
        yield f'{last.node!r} began it {age:.0f} s ago, and it is not complete.'


def _begun(reading: ClusterReading, key: str, place: TaskPlace, history: TaskHistory, *, is_claimable: bool) -> Iterator[str]:
    if history.claims and not history.audits:
        last = history.claims[0]
        if last.node not in reading.live:
            yield f'{last.node!r} is not at work any more, so the task has to be done again.'
        elif last.node != place.owner:
            yield f'{last.node!r} does not own it any more.'
    elif is_claimable and not history.audits:
        yield _unclaimed(key, place.owner, history.date)


def _unclaimed(key: str, owner: str | None, date: dt.date) -> str:
    if is_singleton(key):
        return f'Nothing is recorded of a singleton: whether the program on {owner!r} has a turn is not known here.'
    if is_schedule(key):
        return f'Of a schedule only the ticks are recorded, each under a name of its own: {key}@, and its time in UTC.'
    return f'No claim of it is on record for {date}: the program on {owner!r} has not asked for it, or works at another date.'


def _tick(schedule: str, history: TaskHistory) -> Iterator[str]:
    yield f'It is a tick of {schedule!r}, and the owner of that runs it.'
    if history.claims and not history.audits:
        yield 'Whether it is run again is for the schedule to decide (misfire).'
    elif not history.audits:
        yield f'No claim of it is on record for {history.date}: is this the date of the tick, in the timezone of its schedule?'
