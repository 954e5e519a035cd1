"""What an observer reads of a cluster, from records that each test writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tests.cluster.conftest import Clock, Nodes, acknowledge, task_of

from jobsync import Cluster
from jobsync._cluster.reading import ClusterReading
from jobsync._core.patterns import Choice, NodeNames
from jobsync._core.records import DRAINED, LockEdit
from jobsync._worker.status import node_rows
from jobsync.backend import NOBODY, Member, Pin, Revision, Snapshot, TokenGroup
from jobsync.backends.memory import MemoryStore
from jobsync.errors import ConfigError, SchemaMismatch
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import DAY, TOKENS


def test_nothing_is_changed(namespace: Namespace, cluster: Cluster, nodes: Nodes) -> None:
    """An observer reads: no record differs after all of it."""
    with namespace.unchanged():
        cluster.status()
        cluster.nodes()
        cluster.tokens()
        cluster.hand_overs()
        cluster.locks()
        cluster.why('x')
        cluster.plan(['c'], ['a'])
        cluster.claims()
        cluster.audits()
        cluster.incomplete()
        cluster.rebalances()


def test_a_store_that_is_missing() -> None:
    """Refused where the cluster is named, as by a variable of the environment that is not set."""
    with pytest.raises(ConfigError, match='backend is None: must be a URL or a backend'):
        Cluster(None)  # type: ignore[arg-type]


def test_no_namespace_is_made(cluster: Cluster, store: MemoryStore) -> None:
    """An observer of a namespace that does not exist is refused, and makes none."""
    with pytest.raises(SchemaMismatch):
        cluster.status()
    assert not store.spaces


def test_the_cluster_at_a_glance(cluster: Cluster, nodes: Nodes) -> None:
    """A cluster in order has a leader, all tokens owned, and no problem; the status fits into JSON but for its times."""
    status = cluster.status()
    assert (status['leader'], status['nodes'], status['tokens_owned'], status['tokens_unowned']) == ('a', 2, TOKENS, 0)
    assert status['problems'] == []
    json.dumps(status, default=str)
    assert {row['name']: (row['tokens'], row['state'], row['is_current']) for row in cluster.nodes()} == {
        'a': (12, 'joined', True),
        'b': (12, 'joined', True),
    }
    assert list(cluster.tokens()['b']) == list(range(12, TOKENS))


def test_a_silent_node(cluster: Cluster, namespace: Namespace, nodes: Nodes, clock: Clock) -> None:
    """A node without a heartbeat for its timeout is named, and so is the lease of its tasks."""
    task = task_of(cluster, 'b')
    clock.advance(20)
    namespace.beat(nodes['a'], namespace.snapshot().version)
    assert cluster.status()['silent'] == ['b']
    assert any("node 'b'" in problem and 'silent for 20 s' in problem for problem in cluster.status()['problems'])
    found = cluster.why(task)
    assert not found.is_claimable
    assert "'b'" in found.verdict
    assert 'silent for 20 s' in found.verdict


def test_a_leader_that_is_silent(cluster: Cluster, namespace: Namespace, nodes: Nodes, clock: Clock) -> None:
    """The problems say that another node is to lead."""
    clock.advance(20)
    namespace.beat(nodes['b'], namespace.snapshot().version)
    assert any("the leader 'a' is not at work" in problem for problem in cluster.status()['problems'])


def test_a_leader_that_has_left(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """No node is shown as the leader until another one has taken the leadership, whose record still names it."""
    namespace.backend.deregister(nodes['a'])
    status = cluster.status()
    assert (status['leader'], status['problems'][0]) == (None, 'no node leads')
    assert {row['name']: row['is_leader'] for row in cluster.nodes()} == {'a': False, 'b': False}
    assert not any(row['is_leader'] for row in node_rows(namespace.snapshot(), 15))
    namespace.lead(nodes['b'])
    assert (cluster.status()['leader'], [row['is_leader'] for row in cluster.nodes()]) == ('b', [False, True])


def test_a_node_that_has_left(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """Its tokens have no owner until the leader gives them away, also if its name comes and leaves again."""
    namespace.backend.deregister(nodes['b'])
    status = cluster.status()
    assert (status['tokens_owned'], status['tokens_unowned'], status['problems']) == (12, 12, ['12 tokens have no owner'])
    assert {row['name']: (row['tokens'], row['state']) for row in cluster.nodes()} == {'a': (12, 'joined'), 'b': (0, 'left')}
    assert cluster.tokens().keys() == {'a'}
    namespace.backend.deregister(namespace.join('b'))
    assert cluster.status()['tokens_unowned'] == 12


def test_a_task_whose_owner_has_left(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """No list names a node as the owner that has left, whose tokens the leader may keep for it for minutes."""
    task = task_of(cluster, 'b')
    namespace.lock('feed-1', patterns=('%',), group='feeds')
    namespace.commit(nodes['a'], pins=(Pin(TOKENS + namespace.locks()['feed-1'].id, 'feed-1', 'b', group='feeds'),))
    assert (cluster.owner_of(task), cluster.items()[0]['owner']) == ('b', 'b')
    namespace.backend.deregister(nodes['b'])
    assert (cluster.owner_of(task), cluster.owner_of('feed-1'), cluster.items()[0]['owner']) == (None, None, None)
    assert {row['name']: row['pins'] for row in cluster.nodes()} == {'a': 0, 'b': 0}


def test_a_node_that_has_left_and_may_come_back(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """The explanation says for how long the leader keeps its tokens for it; not of a node that has died."""
    namespace.lead(namespace.join('c', settings=json.dumps({'rejoin_grace_sec': 300})))
    task = task_of(cluster, 'b')
    namespace.backend.deregister(nodes['b'])
    assert "'b' has left, and may have its tokens back for 300 s (rejoin_grace_sec)" in cluster.why(task).verdict
    task = task_of(cluster, 'a')
    namespace.backend.deregister(nodes['a'], died=True)
    assert 'rejoin_grace_sec' not in cluster.why(task).verdict


def test_an_owner_without_a_record_keeps_its_tokens(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """It may still be working, even if another run that does not know of it has joined under its name and left."""
    namespace.evict(nodes['a'], nodes['b'])
    namespace.backend.deregister(namespace.join('b'))
    assert (cluster.status()['tokens_owned'], sorted(cluster.tokens())) == (TOKENS, ['a', 'b'])


def test_no_node_at_work(cluster: Cluster, nodes: Nodes, clock: Clock) -> None:
    """When all are silent, that is the first problem, and the reason why no task is done."""
    clock.advance(20)
    assert cluster.status()['problems'][0] == 'no node is at work'
    assert 'no node is at work' in cluster.why('x').verdict


def test_a_copy_of_the_store(cluster: Cluster, store: MemoryStore, nodes: Nodes, clock: Clock) -> None:
    """Nodes that are alive by records that another store has written, as by replication, are not at work in this one."""
    assert cluster.status()['problems'] == []
    store.identity = 'another'
    (problem,) = cluster.status()['problems']
    assert problem.startswith('the nodes have begun in another store: this is a copy')
    store.durable = False  # restarted, it is another store without being a copy
    assert cluster.status()['problems'] == []
    clock.advance(20)
    store.durable = True
    assert cluster.status()['problems'][0] == 'no node is at work'


def test_a_task_and_its_owner(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """The explanation names the owner, since when and by which rebalance, and that nobody has asked for the task."""
    task = task_of(cluster, 'b')
    found = cluster.why(task, DAY)
    assert (found.owner, found.is_claimable, found.is_pinned, found.is_complete) == ('b', True, False, False)
    text = '\n'.join([found.verdict, *found.details])
    assert [(row['event'], row['by'], row['details']) for row in found.history] == [('owner', 'b', 'first distribution')]
    assert "'b' may do it" in text
    assert '2026-03-02 12:00:00 UTC (first distribution)' in text
    assert "the program on 'b' has not asked for it, or works at another date" in text


def test_a_task_that_many_nodes_have_begun(
    cluster: Cluster, namespace: Namespace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which nodes are at work is found a few times, and not for each claim: with thousands of both that would take seconds."""
    for name in map(str, range(50)):
        namespace.backend.append_claims(namespace.join(name), ['x'], DAY)
    live, found = vars(ClusterReading)['live'].fget, list[object]()

    def counted(reading: ClusterReading) -> Any:
        found.append(reading)
        return live(reading)

    monkeypatch.setattr(ClusterReading, 'live', property(counted))
    assert len(cluster.history('x')) == len(cluster.why('x', DAY).history) == 50 + 1
    assert len(found) < 10


def test_a_task_that_is_begun_and_complete(cluster: Cluster, namespace: Namespace, nodes: Nodes, clock: Clock) -> None:
    """A claim is told with its age, a completion with its node and time."""
    task = task_of(cluster, 'b')
    namespace.backend.append_claims(nodes['b'], [task], DAY)
    clock.advance(7)
    assert "'b' began it 7 s ago, and it is not complete." in cluster.why(task, DAY).details
    assert [row['item'] for row in cluster.incomplete(5, DAY)] == [task]
    namespace.backend.append_audits('b', [task], DAY)
    found = cluster.why(task, DAY)
    assert found.is_complete
    assert found.verdict == "It is complete: 'b' recorded it at 2026-03-02 12:00:07 UTC."
    assert [row['event'] for row in found.history] == ['completed', 'begun', 'owner']
    clock.advance(20)
    found = cluster.why(task, DAY)
    assert found.verdict.startswith('It is complete')
    assert found.details[0] == 'Not claimable: no node is at work.'
    assert cluster.incomplete() == []


def test_a_claim_of_a_node_that_is_gone(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """The work of a node that is gone has to be done again, and the explanation says so."""
    task = task_of(cluster, 'a')
    gone = namespace.join('gone')
    namespace.backend.append_claims(gone, [task], DAY)
    namespace.backend.deregister(gone)
    assert any("'gone' is not at work any more" in line for line in cluster.why(task, DAY).details)


def test_a_token_with_a_home(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """The node that lost a token by leaving is named, as long as it is not back: it had the token, and is to have it again."""
    task = task_of(cluster, 'b')
    namespace.commit(nodes['a'], TokenGroup([cluster.why(task).token], 'b', home='gone'))
    sentence = "'gone' lost it by leaving or dying, and is to have it again if it comes back."
    assert sentence in cluster.why(task).details
    namespace.join('gone')
    assert sentence not in cluster.why(task).details


def test_a_lock_without_a_match(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A pin without an owner is a problem; the explanation has the pattern, the live nodes and who locked it."""
    namespace.lock('x', patterns=('gpu-%',), reason='needs a gpu')
    pin = Pin(TOKENS + namespace.locks()['x'].id, 'x', None)
    acknowledge(namespace, nodes, namespace.commit(nodes['a'], pins=(pin,)))
    assert cluster.status()['unmatched'] == ['x']
    found = cluster.why('x')
    assert (found.is_pinned, found.owner, found.is_claimable) == (True, None, False)
    assert "bound to 'gpu-%', and no live node matches" in found.verdict
    assert 'Live nodes: a, b.' in found.verdict
    assert any("by 'me'" in line and 'needs a gpu' in line for line in found.details)
    for name in 'cdefgh':
        namespace.join(name)
    assert 'Live nodes: a, b, c, d, e and 3 more.' in cluster.why('x').verdict


@pytest.mark.parametrize('reason', ['drained', 'of weight 0', 'stalled'])
def test_a_lock_that_only_idle_nodes_match(cluster: Cluster, namespace: Namespace, nodes: Nodes, reason: str) -> None:
    """Where what matches is to own nothing, the explanation says so, and not that no live node matches."""
    if reason == 'drained':
        cluster.drain('b', actor='ann')
    else:
        namespace.backend.set_weight(nodes['b'], float(reason == 'stalled'), stalled=reason == 'stalled')
    namespace.lock('x', patterns=('gpu-%', 'b'))
    pin = Pin(TOKENS + namespace.locks()['x'].id, 'x', None)
    acknowledge(namespace, nodes, namespace.commit(nodes['a'], pins=(pin,)))
    verdict = cluster.why('x').verdict
    assert f"each live node that matches is to own nothing: 'b' is {reason}." in verdict
    namespace.join('gpu-1')
    assert 'the leader is to give it to a node' in cluster.why('x').verdict


def test_a_lock_that_is_not_placed_yet(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """Between the registration of a lock and the leader's plan the explanation says so."""
    namespace.lock('x')
    assert 'The leader has not placed it by that yet.' in cluster.why('x').details


def test_a_lock_that_the_leader_ignores(cluster: Cluster, namespace: Namespace) -> None:
    """Where ``locks_enabled`` is off on the leader, the lock has no effect, and the explanation says so."""
    namespace.lead(namespace.join('a', settings=json.dumps({'locks_enabled': False})))
    namespace.lock('x')
    details = cluster.why('x').details
    assert 'The leader ignores task locks: its locks_enabled is off.' in details
    assert 'The leader has not placed it by that yet.' not in details


def test_items(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """An item has its group, its cost and its owner; it is no task lock, and a forecast counts it."""
    namespace.lock('f1', 'f2', patterns=('%',), group='feeds', cost=2.0)
    first, second = (lock for lock in namespace.backend.read_locks().locks)
    pins = Pin(TOKENS + first.id, 'f1', 'a', group='feeds'), Pin(TOKENS + second.id, 'f2', 'a', group='feeds')
    acknowledge(namespace, nodes, namespace.commit(nodes['a'], pins=pins))
    assert [(row['group'], row['item'], row['owner'], row['cost']) for row in cluster.items('feeds')] == [
        ('feeds', 'f1', 'a', 2.0),
        ('feeds', 'f2', 'a', 2.0),
    ]
    assert (cluster.items('other'), cluster.locks()) == ([], [])
    assert (cluster.status()['items'], cluster.status()['locks']) == (2, 0)
    assert any("an item of the group 'feeds'" in line for line in cluster.why('f1').details)
    assert cluster.plan()['moved'] == 1  # one item each, and 13 of 26 each


def test_a_hand_over(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A hand-over goes through requested, in use and released, each with the nodes' names."""
    task = task_of(cluster, 'b')
    token = cluster.why(task).token
    version = namespace.commit(nodes['a'], TokenGroup([token], 'b', 'a'))
    namespace.beat(nodes['a'], version)
    assert not cluster.why(task).is_claimable
    assert "handed over to 'a', and 'b' has not acknowledged the present version yet" in cluster.why(task).verdict
    namespace.beat(nodes['b'], version, holding=[token])
    assert "'b' is still busy with it (at most handover_timeout_sec)." in cluster.why(task).verdict
    (row,) = cluster.hand_overs()
    assert (row['owner'], row['target'], row['tokens'], row['held'], row['is_acknowledged']) == ('b', 'a', 1, [token], True)
    assert any("'b' is still busy with 1 token that" in problem for problem in cluster.status()['problems'])
    namespace.beat(nodes['b'], version)
    assert "'b' has released it" in cluster.why(task).verdict


def test_an_acknowledgement_of_an_earlier_version_is_not_denied(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """Of an owner that has acknowledged its request, and not the version after that, ``why`` says that and no more."""
    task = task_of(cluster, 'b')
    token = cluster.why(task).token
    namespace.beat(nodes['b'], namespace.commit(nodes['a'], TokenGroup([token], 'b', 'a')))
    assert "'b' has released it" in cluster.why(task).verdict
    namespace.beat(nodes['a'], namespace.commit(nodes['a']))
    assert "handed over to 'a', and 'b' has not acknowledged the present version yet." in cluster.why(task).verdict


def others(cluster: Cluster, token: int) -> tuple[str, str, str, str]:
    """Three tasks of a token, and one of another."""
    tasks = [f'job {number}' for number in range(10 * TOKENS)]
    of_token = [task for task in tasks if cluster.why(task).token == token]
    return of_token[0], of_token[1], of_token[2], next(task for task in tasks if task not in of_token)


def test_the_task_that_holds_a_hand_over_up(cluster: Cluster, namespace: Namespace, nodes: Nodes, clock: Clock) -> None:
    """It may be another task of the same token; what an earlier run of the name began, or is complete, is none."""
    task = task_of(cluster, 'b')
    token = cluster.why(task).token
    other, done, old, elsewhere = others(cluster, token)
    namespace.backend.append_claims(nodes['b'], [old], DAY)
    namespace.backend.deregister(nodes['b'])
    clock.advance(10)
    b = namespace.join('b', settings='{"handover_timeout_sec": 30}')
    namespace.backend.append_claims(b, [other, done, elsewhere], DAY)
    namespace.backend.append_audits('b', [done], DAY)
    version = namespace.commit(nodes['a'], TokenGroup([token], 'b', 'a'), members={'b': Member(b.incarnation, 15.0)})
    clock.advance(21)
    namespace.beat(nodes['a'], version)
    namespace.beat(b, version, holding=[token])
    assert cluster.why(task).verdict == (
        f"It is being handed over to 'a', and 'b' is still busy with it, at task {other!r} for 21 s (at most "
        'handover_timeout_sec, 30 s).'
    )


def test_a_token_that_is_to_be_released(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A token whose target is no node is told without a name."""
    namespace.commit(nodes['a'], TokenGroup([12], 'b', NOBODY))
    assert cluster.hand_overs()[0]['target'] is None


def test_an_owner_whose_record_is_gone(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """The tokens of an absent owner wait, and the explanation says for how long."""
    task = task_of(cluster, 'b')
    namespace.evict(nodes['a'], nodes['b'])
    found = cluster.why(task)
    assert not found.is_claimable
    assert "'b' has no record any more" in found.verdict
    assert '15 s' in found.verdict


def test_a_new_owner_that_has_not_read_it(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A node that was given a token claims it only after its own acknowledgement, and the explanation says so."""
    task = task_of(cluster, 'b')
    version = namespace.commit(nodes['a'], TokenGroup([cluster.why(task).token], 'a'))
    assert 'has not read the assignment that says so yet' in cluster.why(task).verdict
    namespace.beat(nodes['a'], version)
    assert cluster.why(task).is_claimable


def test_what_a_join_would_move(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A third node of equal weight gets a third, and nothing else moves."""
    plan = cluster.plan(['c'])
    assert {name: (node['before'], node['after']) for name, node in plan['nodes'].items()} == {
        'a': (12, 8),
        'b': (12, 8),
        'c': (0, 8),
    }
    assert plan['moved'] == 8
    heavy = cluster.plan({'c': 2.0}, ['a'])
    assert (heavy['nodes']['a']['after'], heavy['nodes']['b']['after'], heavy['nodes']['c']['after']) == (0, 8, 16)


def test_a_forecast_of_the_first_distribution(cluster: Cluster, namespace: Namespace) -> None:
    """Before it no token has a row, and the nodes that have joined or are to join get all of them."""
    assert cluster.plan(['a'])['nodes']['a']['after'] == TOKENS
    namespace.leader('b')
    forecast = cluster.plan(['a'])
    assert {name: node['after'] for name, node in forecast['nodes'].items()} == {'a': TOKENS // 2, 'b': TOKENS // 2}
    assert forecast['moved'] == TOKENS


def test_a_forecast_with_a_stalled_node(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A stalled node gets nothing, as the leader gives it nothing, unless no other node could own its tokens."""
    namespace.backend.set_weight(nodes['b'], 1.0, stalled=True)
    assert {name: node['after'] for name, node in cluster.plan()['nodes'].items()} == {'a': TOKENS, 'b': 0}
    assert cluster.plan(remove=['a'])['nodes']['b']['after'] == TOKENS
    assert cluster.plan(add={'b': 1.0})['nodes']['b']['after'] == TOKENS / 2  # once it is started again


def test_a_forecast_of_many_locks(cluster: Cluster, namespace: Namespace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks with equal patterns are matched with the nodes once: with thousands of both, each by itself would take minutes."""
    namespace.lock(*map(str, range(20)), patterns=('_',))
    pins = tuple(Pin(TOKENS + lock.id, task, 'a') for task, lock in namespace.locks().items())
    acknowledge(namespace, nodes, namespace.commit(nodes['a'], pins=pins))
    matched: list[object] = []
    choose = NodeNames.choose

    def counted(names: NodeNames, patterns: Iterable[str]) -> Choice:
        matched.append(patterns)
        return choose(names, patterns)

    monkeypatch.setattr(NodeNames, 'choose', counted)
    assert cluster.plan(['c'])['nodes']['c']['after'] == (TOKENS + 20) // 3
    assert matched == [('_',)]


def test_a_plan_of_what_cannot_be(cluster: Cluster, nodes: Nodes) -> None:
    """A node that is not at work cannot be removed, and a weight has to be one."""
    with pytest.raises(ConfigError, match=r"'z'.*a, b"):
        cluster.plan(remove=['z'])
    with pytest.raises(ConfigError, match='remove is a, b: no other node at work or added could own the tokens'):
        cluster.plan({'c': 0.0}, ['a', 'b'])
    assert cluster.plan({'c': 1.0}, ['a', 'b'])['nodes']['c']['after'] == TOKENS
    with pytest.raises(ConfigError, match='weight'):
        cluster.plan({'c': -1})


def test_locks_are_edited_in_somebodys_name(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A lock has its creator, and is cleared by task or by creator."""
    cluster.add_lock('x', ['gpu-%', '%'], 'why not', actor='ann@desk')
    cluster.add_lock('y', 'a', actor='bob@desk')
    rows = {row['task_id']: row for row in cluster.locks()}
    assert (rows['x']['patterns'], rows['x']['created_by'], rows['x']['reason']) == (['gpu-%', '%'], 'ann@desk', 'why not')
    assert cluster.clear_locks(['x', 'absent']) == 1
    assert cluster.clear_locks(creator='bob@desk') == 1
    assert cluster.locks() == []


def test_what_has_not_changed_is_not_read_again(cluster: Cluster, store: MemoryStore, namespace: Namespace, nodes: Nodes) -> None:
    """Watching an idle cluster reads one snapshot each time: neither the assignment nor the locks. A plan costs one more call."""
    cluster.status()
    calls: list[str] = []

    def counted(method: str, inner: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **fields: object) -> object:
            calls.append(method)
            return inner(*args, **fields)

        return call

    for method in ('snapshot', 'read_assignment', 'read_locks', 'open'):
        setattr(cluster._backend, method, counted(method, getattr(cluster._backend, method)))
    cluster.status()
    namespace.beat(nodes['a'], namespace.snapshot().version)
    cluster.nodes()
    assert calls == ['snapshot', 'snapshot']
    namespace.lock('x')
    assert len(cluster.locks()) == 1
    calls.clear()
    version = namespace.commit(nodes['a'], TokenGroup([0], 'a', target='b'))
    assert cluster.status()['tokens_moving'] == 1
    acknowledge(namespace, nodes, version)
    namespace.join('c')
    assert cluster.status()['nodes'] == 3
    assert calls == ['snapshot', 'read_assignment', 'snapshot']
    namespace.commit(nodes['a'], TokenGroup([0], 'b'))
    namespace.lock('y')
    assert (cluster.tokens()['b'][0], len(cluster.locks())) == (0, 2)


def test_a_plan_amid_a_reading(cluster: Cluster, namespace: Namespace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is shown is of one version: what was read before the plan is read again."""
    backend = cluster._backend
    snapshot, versions = backend.snapshot, list[Revision]()

    def planned_meanwhile() -> Snapshot:
        found = snapshot()
        if not versions:
            versions.append(namespace.commit(nodes['a'], TokenGroup([0], 'a', target='b')))
        return found

    monkeypatch.setattr(backend, 'snapshot', planned_meanwhile)
    status = cluster.status()
    assert (status['version'], status['tokens_moving']) == (versions[0].number, 1)


def test_what_is_held_after_its_request(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A node's record names what it was to hand over until its next heartbeat: that is no hand-over any more."""
    namespace.beat(nodes['a'], namespace.snapshot().version, holding=[0])
    assert cluster.hand_overs() == []
    assert cluster.status()['problems'] == []


def test_a_renewed_timeline_is_read_anew(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """After a renewal the observer's assignment is the new one, though version numbers may be known."""
    cluster.status()
    namespace.backend.renew_timeline(namespace.timeline, 0)
    status = cluster.status()
    assert (status['timeline'], status['tokens_owned'], status['nodes']) == (1, 0, 0)


def test_a_drain(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A drained node is marked, gets nothing in a forecast, and is no item; undoing it is said only once."""
    cluster.drain('b', 'new disk', actor='ann@desk')
    assert cluster.status()['drained'] == ['b']
    assert {row['name']: row['is_drained'] for row in cluster.nodes()} == {'a': False, 'b': True}
    assert cluster.plan()['nodes']['b']['after'] == 0
    assert (cluster.items(), cluster.locks(), cluster.status()['items'], cluster.clear_locks()) == ([], [], 0, 0)
    assert cluster.why('b').is_pinned is False
    assert [cluster.undrain('b'), cluster.undrain('b')] == [True, False]
    assert cluster.status()['drained'] == []


def test_the_last_node_is_not_drained_by_mistake(cluster: Cluster, nodes: Nodes) -> None:
    """A node whose tokens no other could own is drained by force alone, and then that is a problem."""
    cluster.drain('a', actor='ann')
    with pytest.raises(ConfigError, match=r'no other node.*--force, drains it'):
        cluster.drain('b', actor='ann')
    cluster.drain('b', actor='ann', force=True)
    with pytest.raises(ConfigError, match=r'no other node.*is drained already'):
        cluster.drain('b', actor='ann')
    assert 'every node at work is drained' in cluster.status()['problems']


def test_two_operators_do_not_drain_the_last_two_nodes(
    cluster: Cluster, namespace: Namespace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has read that the other's node is left: the one who drains later undoes it. An older drain is not undone."""
    edit = cluster._backend.edit_locks

    def drain_b_before(lock_edit: LockEdit) -> int:
        monkeypatch.undo()
        namespace.lock('b', group=DRAINED)
        return edit(lock_edit)

    monkeypatch.setattr(cluster._backend, 'edit_locks', drain_b_before)
    with pytest.raises(ConfigError, match='no other node'):
        cluster.drain('a', actor='ann')
    assert cluster.status()['drained'] == ['b']
    assert {row['event'] for row in cluster.history() if row['by'] == 'ann'} == {'drain', 'undrain'}
    cluster.undrain('b')
    cluster.drain('a')
    monkeypatch.setattr(cluster._backend, 'edit_locks', drain_b_before)
    cluster.drain('a', 'another reason')
    assert cluster.status()['drained'] == ['a', 'b']


def test_the_last_node_that_makes_progress_is_not_drained_by_mistake(
    cluster: Cluster, namespace: Namespace, nodes: Nodes
) -> None:
    """A node that has stalled would be given its tokens, and do nothing with them."""
    namespace.backend.set_weight(nodes['b'], 1.0, stalled=True)
    with pytest.raises(ConfigError, match='no other node'):
        cluster.drain('a', actor='ann')
    cluster.drain('b', actor='ann')
    cluster.undrain('b', actor='ann')
    namespace.backend.set_weight(nodes['a'], 1.0, stalled=True)
    cluster.drain('a', actor='ann')


def test_a_task_in_quarantine(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """Where nodes count attempts, a task at which as many workers were lost may be claimed by none, and the reason says so."""
    namespace.join('c', settings=json.dumps({'max_attempts': 2}))
    task = task_of(cluster, 'b')
    for _ in range(2):
        lost = namespace.join('lost')
        namespace.backend.append_claims(lost, [task], DAY, 5)
        namespace.evict(nodes['a'], lost)
    acknowledge(namespace, nodes, namespace.snapshot().version)
    found = cluster.why(task, DAY)
    assert not found.is_claimable
    assert 'in quarantine, since 2 workers were lost at it' in found.verdict
    assert "Workers lost at it: 2 (not at work any more: 'lost' began it at 12:00:00 UTC)." in found.details
    namespace.evict(nodes['a'], nodes['b'])
    found = cluster.why(task, DAY)
    assert 'in quarantine' in found.verdict
    assert "'b' has no record any more" in found.details[0]
    assert [(row['item'], row['attempts']) for row in cluster.quarantined(date=DAY)] == [(task, 2)]
    assert cluster.quarantined(3, DAY) == []
    cluster.release([task], DAY)
    assert 'quarantine' not in cluster.why(task, DAY).verdict


def test_a_long_task_id_among_the_problems(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """The status shows its begin and its end, so that the rest of the status can be seen."""
    for task in ('short', 'x' * 1000 + 'y'):
        namespace.lock(task, patterns=('absent-%',))
    pins = tuple(Pin(TOKENS + lock.id, task, None) for task, lock in namespace.locks().items())
    acknowledge(namespace, nodes, namespace.commit(nodes['a'], pins=pins))
    (problem,) = cluster.status()['problems']
    assert problem == f'tasks whose patterns match no live node: 2 (short, {"x" * 60}...{"x" * 59}y)'


def test_a_tick_is_with_its_schedule(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """The owner of the schedule runs a tick, whatever the tick's own name hashes to."""
    tick = '@2026-01-01T02:00:00Z'
    names = (f'every:{number}' for number in range(1000))
    schedule = next(name for name in names if (cluster.owner_of(name), cluster.owner_of(name + tick)) == ('b', 'a'))
    assert 'is this the date of the tick' in cluster.why(schedule + tick, DAY).details[-1]
    namespace.backend.append_claims(nodes['b'], [schedule + tick], DAY)
    found = cluster.why(schedule + tick, DAY)
    assert (found.owner, found.token, found.verdict) == ('b', cluster.why(schedule).token, "'b' may do it.")
    assert found.details[1:] == (
        "'b' began it 0 s ago, and it is not complete.",
        f'It is a tick of {schedule!r}, and the owner of that runs it.',
        'Whether it is run again is for the schedule to decide (misfire).',
    )
    assert [(row['event'], row['by']) for row in cluster.history(schedule + tick)] == [('begun', 'b'), ('owner', 'b')]
    cluster.add_lock(schedule, 'b', actor='ann')
    assert "It is locked to 'b', by 'ann'." in cluster.why(schedule + tick, DAY).details
    namespace.backend.append_audits('b', [schedule + tick], DAY)
    found = cluster.why(schedule + tick, DAY)
    assert found.is_complete
    assert found.details[-1] == f'It is a tick of {schedule!r}, and the owner of that runs it.'


def test_a_schedule_and_a_singleton_have_no_claims_of_their_own(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """That none is on record does not mean that their programs do nothing."""
    owner = cluster.owner_of('singleton:feed')
    assert cluster.why('singleton:feed', DAY).details[-1] == (
        f'Nothing is recorded of a singleton: whether the program on {owner!r} has a turn is not known here.'
    )
    assert cluster.why('every:report', DAY).details[-1] == (
        'Of a schedule only the ticks are recorded, each under a name of its own: every:report@, and its time in UTC.'
    )
    namespace.backend.append_claims(nodes['a'], ['singleton:feed'], DAY)
    assert "'a' began it 0 s ago, and it is not complete." in cluster.why('singleton:feed', DAY).details


def test_a_tick_in_hand_holds_up_the_hand_over_of_its_schedule(
    cluster: Cluster, namespace: Namespace, nodes: Nodes, clock: Clock
) -> None:
    """The explanation of the schedule names the tick that its owner is busy with."""
    tick = '@2026-01-01T02:00:00Z'
    names = (f'every:{number}' for number in range(1000))
    schedule = next(name for name in names if (cluster.owner_of(name), cluster.owner_of(name + tick)) == ('b', 'a'))
    token = cluster.why(schedule).token
    clock.advance(1)
    namespace.backend.append_claims(nodes['b'], [schedule + tick], DAY)
    version = namespace.commit(nodes['a'], TokenGroup([token], 'b', 'a'))
    clock.advance(2)
    namespace.beat(nodes['a'], version)
    namespace.beat(nodes['b'], version, holding=[token])
    for key in (schedule, schedule + tick):
        assert f'at task {schedule + tick!r} for 2 s' in cluster.why(key, DAY).verdict


def test_quarantine_once_all_workers_have_ended(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A batch has ended and all of its nodes have left: the task that it left out is still in quarantine by their settings."""
    last = namespace.join('c', settings=json.dumps({'max_attempts': 2}))
    task = task_of(cluster, 'b')
    for _ in range(2):
        lost = namespace.join('lost')
        namespace.backend.append_claims(lost, [task], DAY, 5)
        namespace.evict(nodes['a'], lost)
    for ref in (*nodes.values(), last):
        namespace.backend.deregister(ref)
    assert [(row['item'], row['attempts']) for row in cluster.quarantined(date=DAY)] == [(task, 2)]
    found = cluster.why(task, DAY)
    assert 'in quarantine, since 2 workers were lost at it' in found.verdict
    assert found.details[0] == 'Not claimable: no node is at work.'


def test_settings_that_differ(cluster: Cluster, namespace: Namespace, nodes: Nodes) -> None:
    """A setting that should be equal is a problem that names both values and their nodes; another one is not."""
    for name, enabled in (('c', True), ('d', False)):
        namespace.join(name, settings=json.dumps({'locks_enabled': enabled, 'op_timeout_sec': len(name)}))
    (problem,) = (each for each in cluster.status()['problems'] if 'differ' in each)
    assert problem.startswith('nodes differ in locks_enabled: True (c), False (d)')
    assert {row['name']: row['settings'] for row in cluster.nodes()}['d']['locks_enabled'] is False


@pytest.mark.parametrize('value', ['NaN', '-Infinity', '1e999', '[{"a": NaN}]'])
def test_settings_that_are_no_json(cluster: Cluster, namespace: Namespace, value: str) -> None:
    """A number in an edited record that JSON does not have is in no row, for a program could not read the list of the nodes."""
    namespace.leader('a')
    namespace.join('b', settings=f'{{"heartbeat_timeout_sec": {value}, "max_attempts": 3}}')
    namespace.join('c', settings='{"heartbeat_timeout_sec": 15}')
    found = {row['name']: row['settings'] for row in cluster.nodes()}
    json.dumps(found, allow_nan=False)
    assert found == {'a': {}, 'b': {}, 'c': {'heartbeat_timeout_sec': 15}}
    assert not [words for words in cluster.status()['problems'] if 'differ' in words]
