"""Evictions by operators, and the history of what was done and by whom."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Collection

import attrs
import pytest
from tests.cluster.conftest import Clock, Nodes, task_of
from tests.job.waiting import wait_until

from jobsync import Cluster, CoordinationConfig, Job
from jobsync._cluster import actions
from jobsync._cluster.actions import user_at_host
from jobsync._core.records import ACTIONS, DRAINED, LockEdit
from jobsync._event_log import event_log
from jobsync._random import RANDOM
from jobsync._runtime.leader_record import record_leader
from jobsync.backend import Changes, HistoryKind, Leadership, Purged, Revision, TokenGroup
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.errors import BackendUnavailable, ConfigError
from jobsync.testing import Fault, FaultyBackend, Namespace
from jobsync.testing.conformance.namespace import DAY, TOKENS


def test_an_eviction_gives_nothing_away(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """The record is gone, and what the node owned is still its own: the leader lets it wait, and ``why`` says so."""
    task = task_of(cluster, 'b')
    rows = namespace.state().rows
    assert cluster.evict('b', 'hangs', actor='ann@desk') == 15.0
    assert [node['name'] for node in cluster.nodes()] == ['a']
    assert namespace.state().rows == rows
    found = cluster.why(task)
    assert not found.is_claimable
    assert 'may still be working: its tokens wait until it has been absent for its timeout of 15 s' in found.verdict
    with pytest.raises(ConfigError, match=r"node is 'b'.*registered node: a$"):
        cluster.evict('b')


def config(store: MemoryStore, *faults: Fault) -> CoordinationConfig:
    backend = FaultyBackend(MemoryBackend(store), *faults)
    return CoordinationConfig(backend=backend, minimum_nodes=1, total_tokens=20, heartbeat_interval_sec=0.2)


def test_a_live_process_that_is_evicted_joins_anew() -> None:
    """It stops claiming, registers as another run, and has what it owned: nobody else has had it."""
    store = MemoryStore()
    with Job('w1', coordination_config=config(store)) as job, Cluster(MemoryBackend(store)) as cluster:
        wait_until(lambda: len(job.my_tokens) == 20, 'it owns everything')
        (before,) = cluster.nodes()
        cluster.evict('w1')
        wait_until(lambda: [node['incarnation'] != before['incarnation'] for node in cluster.nodes()] == [True], 'it joins anew')
        wait_until(lambda: len(job.my_tokens) == 20, 'it owns everything again')
        assert sum(row['tokens_moved'] for row in cluster.rebalances()) == 20


def test_each_action_is_recorded_with_who_did_it(cluster: Cluster, nodes: Nodes, clock: Clock) -> None:
    """Each kind once, newest first, between the rebalances; what changes nothing is not recorded."""
    steps: tuple[Callable[[], object], ...] = (
        lambda: cluster.drain('b', 'new disk', actor='ann'),
        lambda: cluster.undrain('b', actor='bob'),
        lambda: cluster.undrain('b', actor='bob'),
        lambda: cluster.add_lock('x', ['gpu-%', '%'], 'why not', actor='cid'),
        lambda: cluster.clear_locks(['x'], actor='dot'),
        lambda: cluster.clear_locks(['x'], actor='dot'),
        lambda: cluster.release(['x', 'y'], DAY, actor='eve'),
        lambda: cluster.evict('b', actor='fay'),
        lambda: cluster.purge(older_than=0, actor='gus'),
        lambda: cluster.purge(older_than=0, actor='gus'),
    )
    for step in steps:
        clock.advance(1)
        step()
    assert [(row['event'], row['by'], row['details']) for row in cluster.history()] == [
        ('purge', 'gus', '0 claims, 0 audits, 1 rebalances'),
        ('evict', 'fay', 'b'),
        ('release', 'eve', f'x, y: for {DAY}'),
        ('clear locks', 'dot', 'x: 1 lock removed'),
        ('lock', 'cid', 'x: to gpu-%, %, why not'),
        ('undrain', 'bob', 'b'),
        ('drain', 'ann', 'b: new disk'),
    ]
    assert len(cluster.history(limit=2)) == 2
    cluster.drain('a', force=True)
    clock.advance(1)
    assert ('drain', user_at_host()) in [(row['event'], row['by']) for row in cluster.history()]
    assert (cluster.items(), cluster.locks(), cluster.status()['items']) == ([], [], 0)


def test_actions_are_no_items_for_the_leader(clock: Clock) -> None:
    """A leader makes no pins of them, and old ones go when another is recorded."""
    store = MemoryStore(clock)
    with Job('w1', coordination_config=config(store)) as job, Cluster(MemoryBackend(store)) as cluster:
        wait_until(lambda: len(job.my_tokens) == 20, 'it owns everything')
        cluster.release(['x'])
        version = job.token_version
        cluster.add_lock('y', 'w1')
        wait_until(lambda: job.token_version > version, 'the leader has read the locks')
        assert [pin.task_id for pin in job._session.read_assignment().pins.values()] == ['y']
        clock.advance(366 * 86_400)
        cluster.clear_locks(['y'])
        assert [row['event'] for row in cluster.history() if row['event'] != 'rebalance'] == ['clear locks']


def test_the_oldest_of_many_actions_are_removed(
    cluster: Cluster, namespace: Namespace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaders read them with the task locks: they stay few, while the leaders and who has added a lock remain."""
    monkeypatch.setattr(actions, '_MOST', 10)
    record_leader(namespace.backend, Leadership(1, nodes['a']), None)
    cluster.add_lock('x', 'a', actor='scaler')
    monkeypatch.setattr(RANDOM, 'random', lambda: 0.0)
    for number in range(30):
        cluster.release([str(number)], DAY)
    assert len(namespace.backend.read_locks().locks) == 1 + 1 + 1 + 10
    events = [(row['event'], row['by'], row['details']) for row in cluster.history()]
    assert {details for event, _, details in events if event == 'release'} == {f'{number}: for {DAY}' for number in range(20, 30)}
    assert {event[:2] for event in events if event[0] in ('lock', 'leader')} == {('lock', 'scaler'), ('leader', 'a')}


@pytest.mark.usefixtures('nodes')
def test_many_actors_whose_locks_are_gone_keep_no_actions(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as user@host of a container for each lock: their actions are removed as all others."""
    monkeypatch.setattr(actions, '_MOST', 10)
    monkeypatch.setattr(actions, '_REMOVED', 5)
    for number in range(20):
        cluster.add_lock('x', 'a', actor=f'ci@pod-{number}')
    monkeypatch.setattr(RANDOM, 'random', lambda: 0.0)
    cluster.add_lock('y', 'a', actor='ci@last')
    for number in range(4):
        cluster.release([str(number)], DAY)
    assert len([row for row in cluster.history() if row['event'] in ('lock', 'release')]) == 10


def test_the_history_of_a_task(cluster: Cluster, namespace: Namespace, nodes: Nodes, clock: Clock) -> None:
    """Claims and completions of every date, what was done with it, and since when its owner has it."""
    task = task_of(cluster, 'b')
    yesterday = DAY - dt.timedelta(days=1)
    steps: tuple[Callable[[], object], ...] = (
        lambda: namespace.backend.append_claims(nodes['a'], [task], yesterday),
        lambda: namespace.backend.append_claims(nodes['b'], [task, 'other'], DAY),
        lambda: cluster.release([task], DAY, actor='ann'),
        lambda: cluster.release(['other'], DAY, actor='ann'),
        lambda: namespace.backend.append_audits('b', [task], DAY),
    )
    for step in steps:
        clock.advance(1)
        step()
    assert [(row['event'], row['by'], row['details']) for row in cluster.history(task)] == [
        ('completed', 'b', f'for {DAY}'),
        ('release', 'ann', f'{task}: for {DAY}'),
        ('begun', 'b', f'for {DAY}'),
        ('begun', 'a', f'for {yesterday}'),
        ('owner', 'b', 'first distribution'),
    ]


def test_why_reads_no_other_token(cluster: Cluster, nodes: Nodes) -> None:
    """A store may leave out all other tokens when one task is in question: what is read of one is not kept as all."""
    backend, wanted = cluster._backend, list[object]()
    read = backend.read_assignment

    def narrow(since: Revision | None = None, tokens: Collection[int] | None = None) -> Changes:
        wanted.append(tokens)
        changes = read(since, tokens)
        if tokens is None:
            return changes
        rows = [(group, [token for token in group.tokens if token in tokens]) for group in changes.groups]
        return attrs.evolve(changes, groups=tuple(TokenGroup(some, group.owner, version=group.version) for group, some in rows))

    backend.read_assignment = narrow  # type: ignore[method-assign]
    explained = cluster.why('x')
    assert wanted == [[explained.token]]
    assert explained.owner == cluster.owner_of('x') is not None
    assert cluster.status()['tokens_owned'] == TOKENS
    assert cluster.why('x').owner == explained.owner
    assert len(wanted) == 3


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the user may have no name: the number stands for it."""

    def nameless() -> str:
        raise KeyError('uid not found')

    monkeypatch.setattr('getpass.getuser', nameless)
    assert user_at_host().partition('@')[0].isdigit()


def test_a_history_says_what_was_lost_and_locked(cluster: Cluster, namespace: Namespace, nodes: Nodes, clock: Clock) -> None:
    """A lock that a node has made, what a node began that is lost since, and what another one did afterwards; an item says so."""
    task, gone = task_of(cluster, 'a'), namespace.join('gone')
    namespace.backend.append_claims(gone, [task], DAY)
    namespace.backend.deregister(gone)
    clock.advance(1)
    namespace.lock(task, patterns=('a', '%'), created_by='b', reason='near its data')
    clock.advance(1)
    namespace.backend.append_claims(nodes['a'], [task], DAY)
    found = [(row['event'], row['by'], row['details']) for row in cluster.history(task)]
    assert found == [
        ('begun', 'a', f'for {DAY}'),
        ('lock', 'b', 'to a, %, near its data'),
        ('begun', 'gone', f'for {DAY}, and not completed by this node, which is not at work any more'),
        ('owner', 'a', 'first distribution'),
    ]
    namespace.backend.append_audits('a', [task], DAY)
    assert ('begun', 'gone', f'for {DAY}') in [(row['event'], row['by'], row['details']) for row in cluster.history(task)]
    namespace.lock('f1', group='feeds', created_by='b')
    assert [(row['event'], row['by']) for row in cluster.history('f1')][:1] == [('item', 'b')]


def test_the_history_of_leaders(cluster: Cluster, namespace: Namespace, nodes: Nodes, clock: Clock) -> None:
    """Each leader is listed with its epoch, the time, and whom it has followed, though no token moved; 20 of them are kept."""
    record_leader(namespace.backend, Leadership(1, nodes['a']), None)
    clock.advance(1)
    for epoch in range(2, 46):
        if epoch != 10:  # this one could not record itself
            record_leader(namespace.backend, Leadership(epoch, nodes['ab'[epoch % 2]]), nodes['ba'[epoch % 2]])
    changes = cluster.status()['leader_changes']
    assert [row['epoch'] for row in changes] == list(range(45, 25, -1))
    assert changes[0] == {'epoch': 45, 'leader': 'b', 'since': clock.time}
    assert (cluster.locks(), cluster.items()) == ([], [])
    found = [(row['event'], row['by'], row['details']) for row in cluster.history() if row['event'] == 'leader']
    assert len(found) == 20
    assert ('leader', 'b', 'epoch 45, before it a') in found


def test_a_leader_that_cannot_record_itself_leads(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing depends on the record: it has its tokens, and the log says why it is not on record."""
    with Job('w1', coordination_config=config(MemoryStore(), Fault('edit_locks'))) as job:
        wait_until(lambda: len(job.my_tokens) == 20, 'it owns everything')
        assert job.am_i_leader()
    assert event_log.flush(120)
    assert 'epoch 1 has no record of its leader: edit_locks was not done' in caplog.text


TEXTS = ('a\0', '\ud800')
"""What not every store can record."""


@pytest.mark.parametrize('text', TEXTS, ids=('NUL', 'surrogate'))
def test_a_text_that_not_every_store_takes(cluster: Cluster, namespace: Namespace, nodes: Nodes, text: str) -> None:
    """It is refused before anything is changed, whichever argument it is."""
    calls: tuple[Callable[[], object], ...] = (
        lambda: cluster.drain('b', actor=text),
        lambda: cluster.drain('b', text, actor='ann'),
        lambda: cluster.undrain('b', actor=text),
        lambda: cluster.evict('b', actor=text),
        lambda: cluster.evict('b', text, actor='ann'),
        lambda: cluster.release(['x'], actor=text),
        lambda: cluster.purge(older_than=0, actor=text),
        lambda: cluster.clear_locks(creator=text, actor='ann'),
        lambda: cluster.add_lock('x', 'a', text, actor='ann'),
        lambda: cluster.add_lock('x', ['b', text], actor='ann'),
    )
    with namespace.unchanged():
        for call in calls:
            with pytest.raises(ConfigError):
                call()


def test_one_task_in_place_of_several_is_refused(cluster: Cluster) -> None:
    """The letters of an id are not taken for ids, and the error advises nothing that an observer has not."""
    for call in (cluster.clear_locks, cluster.release):
        with pytest.raises(ConfigError, match=r"^tasks is 'x' \(str\): must be an iterable of tasks, such as a list$"):
            call('x')


@pytest.mark.parametrize('error', [KeyboardInterrupt, BackendUnavailable])
def test_a_purge_that_is_interrupted_is_on_record(
    namespace: Namespace, cluster: Cluster, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Who has deleted what until then is in the history."""
    namespace.backend.append_claims(nodes['b'], ['7'], DAY)
    namespace.backend.append_audits('b', ['7'], DAY)
    purge = cluster._backend.purge

    def interrupted(kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        if kind is HistoryKind.AUDIT:
            raise error
        return purge(kind, before, limit, after)

    monkeypatch.setattr(cluster._backend, 'purge', interrupted)
    with pytest.raises(error):
        cluster.purge(before=dt.datetime(2100, 1, 1, tzinfo=dt.UTC), actor='gus')
    (event,) = (row for row in cluster.history() if row['event'] == 'purge')
    assert (event['by'], event['details']) == ('gus', '1 claims, 0 audits, 0 rebalances')


@pytest.mark.parametrize(
    ('action', 'call'),
    [
        ('lock', lambda cluster: cluster.add_lock('x', 'a')),
        ('clear locks', lambda cluster: cluster.clear_locks()),
        ('drain', lambda cluster: cluster.drain('b')),
        ('undrain', lambda cluster: cluster.undrain('b')),
        ('evict', lambda cluster: cluster.evict('b')),
        ('release', lambda cluster: cluster.release(['x'])),
        ('purge', lambda cluster: cluster.purge(before=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))),
        ('purge', lambda cluster: cluster.purge(older_than=1)),
    ],
)
def test_a_store_that_is_away_before_an_action(
    cluster: Cluster, nodes: Nodes, action: str, call: Callable[[Cluster], object]
) -> None:
    """The error says that it was not carried out: no operator has to look, and it may be repeated."""
    away = FaultyBackend(cluster._backend, Fault(times=100))
    with pytest.raises(BackendUnavailable, match=rf'^{action} was not carried out: \w+ was not done'):
        call(Cluster(away))
    assert len(away.calls) == 1


@pytest.mark.parametrize(
    ('fault', 'said'),
    [
        (Fault('snapshot', skip=1), 'drain was carried out, and whether another node is left'),
        (Fault('snapshot', skip=2), 'drain was carried out, and no other node .* tokens: undrain was not carried out: '),
        (Fault('edit_locks', skip=2), 'drain was carried out, and no other node .* tokens: undrain may have been carried out, '),
    ],
)
def test_a_drain_that_is_to_be_undone_when_the_store_goes_away(
    cluster: Cluster, namespace: Namespace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, fault: Fault, said: str
) -> None:
    """The error says of both what became of them: the node is drained."""
    edit = cluster._backend.edit_locks

    @functools.wraps(edit)
    def drain_b_before(lock_edit: LockEdit) -> int:
        monkeypatch.undo()
        namespace.lock('b', group=DRAINED)
        return edit(lock_edit)

    monkeypatch.setattr(cluster._backend, 'edit_locks', drain_b_before)
    with pytest.raises(BackendUnavailable, match=f'^{said}'):
        Cluster(FaultyBackend(cluster._backend, fault)).drain('a')
    assert cluster.status()['drained'] == ['a', 'b']


@pytest.mark.parametrize('name', ['add_lock', 'clear_locks', 'drain', 'undrain', 'evict', 'release', 'purge'])
def test_an_action_that_cannot_be_recorded(cluster: Cluster, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The error says that it was carried out: an operator who repeats it may be told that there is nothing to do."""
    calls: dict[str, Callable[[], object]] = {
        'add_lock': lambda: cluster.add_lock('x', 'a'),
        'clear_locks': cluster.clear_locks,
        'drain': lambda: cluster.drain('b'),
        'undrain': lambda: cluster.undrain('b'),
        'evict': lambda: cluster.evict('b'),
        'release': lambda: cluster.release(['x']),
        'purge': lambda: cluster.purge(before=dt.datetime(2100, 1, 1, tzinfo=dt.UTC)),
    }
    for before in {'clear_locks': ('add_lock',), 'undrain': ('drain',)}.get(name, ()):
        calls[before]()
    edit_locks = cluster._backend.edit_locks

    def edit(edit: LockEdit) -> int:
        if edit.group == ACTIONS:
            raise BackendUnavailable('the store is away')
        return edit_locks(edit)

    monkeypatch.setattr(cluster._backend, 'edit_locks', edit)
    with pytest.raises(BackendUnavailable, match=r'was carried out, and may be missing in the history.*the store is away'):
        calls[name]()
