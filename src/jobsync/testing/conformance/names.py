"""Namespaces with similar names, and text with unusual characters."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from functools import partial

import attrs
import pytest

from jobsync.backend import (
    Eviction,
    HistoryKind,
    LockEdit,
    LockFilter,
    LockRequest,
    Member,
    NodeRef,
    Pin,
    Registration,
    Settings,
    TokenGroup,
    Unclaimed,
)
from jobsync.errors import ConfigError, Conflict, Evicted, NameTaken, UnsupportedOperation
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import DAY, SETTINGS, TOKENS, Namespace
from jobsync.testing.conformance.waiting import Waiting

__all__ = ['IsolationTests', 'NameTests']

NAMESPACES = ('app', 'app_', 'app_2', 'app_2_', 'app2_', 'appx', 'a', 'sync_', 'sync_app_')
"""Names that are beginnings of each other, or alike where ``_`` stands for any character."""

ODD = {
    'unicode': 'Grüße-東京-Ωmega',
    'emoji': '👩‍👩‍👧🏽',
    'combining': 'e\u0301 \u00e9',
    'right to left': '\u202eשלום',
    'quotes': """it's "quoted" `so`""",
    'sql': "x'; DROP TABLE sync_node; --",
    'percent': '100%_%s %% %(name)s {0} $1 :name ?',
    'backslash': '\\\\host\\new\\\\table\\',
    'newline': 'two\nlines\r\n\ttabbed',
    'blanks': '  around  ',
    'one blank': ' ',
    'braces': '{tag}:{}:[0]*',
    'slashes': '/a//b/../c/',
    'control': '\x01\x1f\x7f\x85',
    'number': '0042',
    'null': 'NULL',
    'none': 'None',
    'separator': 'a\x1fb|c,d;e:f',
    'json': '["a", {"b": null}]',
    'long': 'x' * 200,
    'longest': '🦊' * 200,
}
ODD_NAMES = list(ODD.values())

ALIKE = (
    'name', 'Name', 'NAME', 'name ', ' name', 'name\n', 'náme', 'na\u0301me', 'n%', 'n_me', 'n/me', 'n%2Fme', 'name.', 'name%',
)  # fmt: skip
"""Names with the smallest differences."""


class IsolationTests:
    """Namespaces of one store are separate. Otherwise two applications would claim each other's tasks."""

    def fill(self, namespace: Namespace, number: int) -> NodeRef:
        """Add one record of every kind, different in each namespace."""
        leader = namespace.leader(f'leader {number}')
        namespace.lock(f'task {number}')
        namespace.commit(
            leader, TokenGroup(range(number + 1), f'n{number}'), pins=(Pin(TOKENS + 1, f'task {number}', None),), moved=number
        )
        namespace.claim(leader, f'task {number}')
        namespace.audit(leader.name, f'task {number}')
        return leader

    def test_namespaces_are_separate(self, harness: Harness) -> None:
        """A write in one namespace is read in no other, even if one name is the beginning of another.

        A name registered in one is free in the next, and so is the leadership. Each has settings of its own, which stay while a
        node is registered in it.
        """
        namespaces, states = [], []
        for number, name in enumerate(NAMESPACES, 1):
            namespace = Namespace(harness.connect(namespace=name), Settings(TOKENS + number, 'md5'))
            assert namespace.backend.acquire_leadership(namespace.join('a'), 0).epoch == 1
            self.fill(namespace, number)
            namespaces.append(namespace)
            states.append(namespace.state())
        assert [namespace.state() for namespace in namespaces] == states
        settings = [harness.connect(namespace=name).open(SETTINGS, create=False).settings for name in NAMESPACES]
        assert settings == [namespace.settings for namespace in namespaces]
        assert len({state.snapshot.timeline.id for state in states}) == len(NAMESPACES)
        stamps = {state.snapshot.revision.stamp for state in states}
        assert len(stamps) == len(NAMESPACES), (
            'two histories have one stamp: it must be random, or a restored store is not noticed'
        )
        for namespace in namespaces:
            namespace.renew_timeline()
        renewed = {namespace.snapshot().timeline.id for namespace in namespaces}
        assert len(renewed) == len(NAMESPACES), (
            'two renewals gave one id: it must be random, or two copies of a store are taken for one'
        )

    def test_work_of_another_namespace_is_not_seen(self, harness: Harness) -> None:
        """Items that another namespace has completed, or lost attempts at, are new, and its revision is not this one's."""
        namespace, other = (Namespace(harness.connect(namespace=name)) for name in NAMESPACES[:2])
        other.audit('a', 'x')
        other.gone('left', ['y'])
        ref = namespace.join('a')
        assert namespace.backend.append_claims(ref, ['x', 'y'], DAY, 0) == Unclaimed()
        assert namespace.lost() == {}
        number = namespace.revision.number
        assert other.revision.number > number
        waiting = Waiting(namespace.backend.wait, number, 0.05)
        other.join('b')
        assert waiting.answer() == number, 'a wait returns the revision of another namespace'

    def test_emptying_one_namespace_leaves_the_others(self, harness: Harness) -> None:
        """Renewing, clearing and purging one namespace changes no other."""
        namespaces = {name: Namespace(harness.connect(namespace=name)) for name in NAMESPACES}
        for number, namespace in enumerate(namespaces.values(), 1):
            self.fill(namespace, number)
        states = {name: namespace.state() for name, namespace in namespaces.items()}
        for number, (changed, namespace) in enumerate(namespaces.items(), 1):
            self.empty(namespace)
            others = {name: other.state() for name, other in namespaces.items() if name != changed}
            assert {**others, changed: states[changed]} == states, changed
            assert not namespace.nodes()
            assert not namespace.locks()
            namespaces[changed] = Namespace(namespace.backend)
            self.fill(namespaces[changed], number)
            states[changed] = namespaces[changed].state()

    def empty(self, namespace: Namespace) -> None:
        """Remove every record of a namespace, and give it other settings."""
        namespace.backend.edit_locks(LockEdit(remove=LockFilter()))
        namespace.backend.renew_timeline(namespace.timeline, 1000)
        for kind in HistoryKind:
            namespace.purge(kind, namespace.backend.snapshot().now + dt.timedelta(hours=1))
        namespace.backend.open(Settings(5, 'md5'), create=True)

    def test_long_names_of_namespaces(self, harness: Harness) -> None:
        """Namespaces whose long names differ at the end only are different, or such names are refused."""
        with contextlib.suppress(ConfigError):
            one, other = (Namespace(harness.connect(namespace='n' * 84 + end)) for end in 'ab')
            one.join('a')
            assert not other.nodes()

    def test_namespaces_that_differ_in_case_are_one(self, harness: Harness) -> None:
        """A namespace has no case, as names of tables have none: all handles on ``app_`` and ``App_`` see one cluster."""
        ref = Namespace(harness.connect(namespace='App_')).join('a')
        for name in ('app_', 'APP_', 'aPP_'):
            assert [node.ref for node in Namespace(harness.connect(namespace=name)).snapshot().nodes] == [ref]


class NameTests:
    """Node names, task ids and other text are read back unchanged."""

    def test_odd_node_names(self, namespace: Namespace) -> None:
        """A node of any name registers, sends heartbeats, leads, owns tokens, claims and leaves."""
        namespace.join('other')
        for name in ODD_NAMES:
            ref = namespace.join(name, host=name)
            namespace.lead(ref)
            members = {**dict.fromkeys(namespace.assignment().members), name: Member(ref.incarnation, 15.0)}
            pin = Pin(TOKENS + 1, 'x', name, name, home=name)
            namespace.commit(ref, TokenGroup([1], name, name, name), pins=(pin,), members=members, reason=name, moved=1)
            assert namespace.beat(ref).leadership.node == ref
            assert (namespace.node(name).ref, namespace.node(name).host) == (ref, name)
            row = namespace.row(1)
            assert (row.owner, row.target, row.home) == (name, name, name)
            pin = namespace.pins()[TOKENS + 1]
            assert (pin.owner, pin.target, pin.home) == (name, name, name)
            assert list(namespace.backend.read_assignment().members) == [name]
            assert (namespace.rebalances()[0].leader_node, namespace.rebalances()[0].trigger_reason) == (name, name)
            namespace.claim(ref, name)
            assert [claim.node for claim in namespace.claims(item=name)] == [name]
            with namespace.refused(NameTaken):
                namespace.join(name)
            namespace.backend.deregister(ref)
            namespace.commit(namespace.lead(namespace.node('other').ref), departed=(ref,))
            assert list(namespace.nodes()) == ['other'], name

    def test_odd_incarnations(self, namespace: Namespace) -> None:
        """Incarnations may be any text, in a record and in ``replaces``."""
        for number, incarnation in enumerate(ODD_NAMES):
            ref = NodeRef(f'n{number}', incarnation)
            namespace.backend.register(Registration(ref, 15.0, replaces=frozenset(ODD_NAMES)), namespace.timeline, 0)
            assert namespace.node(ref.name).ref == ref
            assert namespace.node(ref.name).replaces == frozenset(ODD_NAMES)
            namespace.join(ref.name, replacing=(incarnation, 0))
            assert namespace.node(ref.name).replaces == {incarnation}

    def test_odd_tasks(self, namespace: Namespace) -> None:
        """A task of any id is locked, pinned, claimed, audited and found."""
        leader = namespace.leader()
        for number, task in enumerate(ODD_NAMES):
            patterns, day = (task, *ODD_NAMES, task), DAY + dt.timedelta(days=number)
            put = (LockRequest(task, patterns, task, task), LockRequest('other', ('a',), 'other'))
            namespace.backend.edit_locks(LockEdit(put=put))
            lock = namespace.locks()[task]
            assert (lock.task_id, lock.patterns, lock.created_by, lock.reason) == (task, patterns, task, task)
            namespace.backend.edit_locks(LockEdit(put=put, group=task))
            items = [lock for lock in namespace.backend.read_locks().locks if lock.group == task]
            assert [item.task_id for item in items] == [task, 'other']
            assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(created_by=task), group=task)) == 1
            namespace.commit(leader, pins=(Pin(TOKENS + lock.id, task, leader.name, task, pattern=task, group=task),))
            pin = namespace.pins()[TOKENS + lock.id]
            assert (pin.task_id, pin.target, pin.pattern, pin.group) == (task, task, task, task)
            namespace.claim(leader, task, 'other', date=day)
            assert task in {claim.item for claim in namespace.backend.incomplete(day, dt.timedelta(0))}
            namespace.audit(task, task, date=day)
            assert [claim.item for claim in namespace.backend.incomplete(day, dt.timedelta(0))] == ['other'], task
            assert [claim.item for claim in namespace.claims(item=task)] == [task]
            assert [(audit.item, audit.node) for audit in namespace.audits(item=task)] == [(task, task)]
            assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(created_by=task, task_ids=frozenset({task})))) == 1
            assert list(namespace.locks()) == ['other']

    def test_attempts_at_odd_tasks(self, namespace: Namespace) -> None:
        """Attempts at tasks of any id are lost, and forgotten, those of one run or of all."""
        ref = namespace.join('a')
        namespace.attempt(ref, *ODD_NAMES)
        namespace.backend.forget_attempts(ODD_NAMES[::3], DAY, ref)
        namespace.backend.deregister(ref)
        lost = [name for name in ODD_NAMES if name not in ODD_NAMES[::3]]
        assert namespace.lost() == dict.fromkeys(lost, 1)
        for number, name in enumerate(lost, 1):
            namespace.backend.forget_attempts([name], DAY)
            assert namespace.lost() == dict.fromkeys(lost[number:], 1), name

    def test_all_odd_names_at_once(self, namespace: Namespace) -> None:
        """Nodes and tasks of all these names exist at the same time."""
        refs = [namespace.join(name) for name in ODD_NAMES]
        namespace.lock(*ODD_NAMES)
        namespace.backend.append_claims(refs[0], ODD_NAMES, DAY)
        assert list(namespace.nodes()) == ODD_NAMES
        assert list(namespace.locks()) == ODD_NAMES
        assert {claim.item for claim in namespace.claims()} == set(ODD_NAMES)

    def test_odd_names_of_members(self, namespace: Namespace) -> None:
        """Members of all these names, and of similar ones, are put, changed and removed by their exact name."""
        leader, names = namespace.leader(), [*ODD_NAMES, *ALIKE]
        steps: list[dict[str, Member | None]] = [
            {name: Member(name, 15.0) for name in names},
            {name: Member('2', 2.5, since=number) for number, name in enumerate(names[::2])},
            dict.fromkeys(names[::3]),
        ]
        expected: dict[str, Member] = {}
        for step in steps:
            before = namespace.assignment()
            namespace.commit(leader, members=step)
            expected = {name: member for name, member in (expected | step).items() if member is not None}
            assert dict(namespace.backend.read_assignment().members) == expected
            assert dict(before.apply(namespace.backend.read_assignment(before.version)).members) == expected

    def test_names_are_compared_exactly(self, namespace: Namespace) -> None:
        """Names that differ in case, blanks, accents or wildcards are different: of nodes, locks, claims and owners."""
        refs = {name: namespace.join(name) for name in ALIKE}
        namespace.lock(*ALIKE)
        for number, name in enumerate(ALIKE):
            namespace.beat(refs[name])
            namespace.claim(refs[name], name, 'common')
            namespace.commit(namespace.lead(refs[name]), TokenGroup([number], name))
        assert [node.heartbeat for node in namespace.nodes().values()] == [2] * len(ALIKE)
        assert [namespace.row(number).owner for number in range(len(ALIKE))] == list(ALIKE)
        assert list(namespace.locks()) == list(ALIKE)
        assert [{claim.node for claim in namespace.claims(item=name)} for name in ALIKE] == [{name} for name in ALIKE]
        assert {claim.node for claim in namespace.claims(item='common')} == set(ALIKE)
        for creator in ('ME', 'me ', 'mé'):
            assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(created_by=creator))) == 0
        for number, name in enumerate(ALIKE, 1):
            assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({name})))) == 1
            assert list(namespace.locks()) == list(ALIKE[number:])

    def test_items_are_compared_exactly(self, namespace: Namespace) -> None:
        """Items that differ in case, blanks, accents or wildcards are different in each history, and so are names of nodes."""
        first, *others = ALIKE
        ref, lost = namespace.join('a'), namespace.join('b')
        namespace.attempt(lost, *ALIKE)
        namespace.backend.deregister(lost)
        assert namespace.lost() == dict.fromkeys(ALIKE, 1)
        namespace.backend.forget_attempts([first], DAY)
        assert namespace.lost() == dict.fromkeys(others, 1)
        for name in ALIKE:
            namespace.audit(name, first)
        assert {audit.node for audit in namespace.audits(item=first)} == set(ALIKE)
        assert namespace.claim(ref, *ALIKE) == {first}
        assert {claim.item for claim in namespace.backend.incomplete(DAY, dt.timedelta(0))} == set(others)

    def test_incarnations_are_compared_exactly(self, namespace: Namespace) -> None:
        """A run whose incarnation differs from the registered one in case, blanks, accents or wildcards is another run."""
        registered = NodeRef('a', ALIKE[0])
        namespace.backend.register(Registration(registered, 15.0), namespace.timeline, 0)
        with namespace.unchanged():
            for incarnation in ALIKE[1:]:
                ref = NodeRef('a', incarnation)
                for call in (
                    namespace.beat,
                    namespace.claim,
                    partial(namespace.backend.set_weight, weight=2.0),
                    partial(namespace.backend.acquire_leadership, epoch=0),
                    namespace.commit,
                ):
                    with pytest.raises(Evicted):
                        call(ref)
                with pytest.raises(NameTaken):
                    namespace.join('a', replacing=(incarnation, 0))
                wanted = attrs.evolve(SETTINGS, hash_function='md5')
                assert namespace.backend.open(wanted, create=True, dead=[(incarnation, 0)]).settings == SETTINGS
                assert not namespace.backend.remove_node(ref)
                namespace.backend.deregister(ref)
        assert namespace.beat(registered).heartbeat == 1

    def test_incarnations_of_a_plan_are_compared_exactly(self, namespace: Namespace) -> None:
        """The runs that a plan evicts, takes for departed or takes for absent are compared by every character, too."""
        leader, joined, left = namespace.leader(), NodeRef('joined', ALIKE[0]), NodeRef('left', ALIKE[0])
        for ref in (joined, left):
            namespace.backend.register(Registration(ref, 15.0), namespace.timeline, 0)
        namespace.backend.deregister(left)
        for incarnation in ALIKE[1:]:
            for plan in (
                {'evictions': (Eviction(NodeRef('joined', incarnation), 0),)},
                {'departed': (NodeRef('left', incarnation),)},
            ):
                with namespace.refused(Conflict):
                    namespace.commit(leader, **plan)
            namespace.commit(leader, absent=(NodeRef('joined', incarnation),))
        with namespace.refused(Conflict):
            namespace.commit(leader, absent=(joined,))
        namespace.commit(leader, evictions=(Eviction(joined, 0),), departed=(left,))
        assert list(namespace.nodes()) == ['leader']

    def test_incarnations_of_attempts_are_compared_exactly(self, namespace: Namespace) -> None:
        """An attempt is lost with its own run, whatever run of the name is at work, and given up by its own run alone."""
        for tolerated, incarnation in enumerate(ALIKE):
            ref = NodeRef('a', incarnation)
            namespace.backend.register(Registration(ref, 15.0), namespace.timeline, 0)
            assert namespace.attempt(ref, 'x', tolerated=tolerated) == {}
            assert namespace.lost() == ({'x': tolerated} if tolerated else {})
            namespace.backend.deregister(ref)
        assert namespace.lost() == {'x': len(ALIKE)}
        ref = NodeRef('b', ALIKE[0])
        namespace.backend.register(Registration(ref, 15.0), namespace.timeline, 0)
        namespace.attempt(ref, 'y', 'z')
        for incarnation in ALIKE[1:]:
            namespace.backend.forget_attempts(['y', 'z'], DAY, NodeRef('b', incarnation))
        namespace.backend.forget_attempts(['z'], DAY, ref)
        namespace.backend.deregister(ref)
        assert namespace.lost() == {'x': len(ALIKE), 'y': 1}

    def test_long_text(self, namespace: Namespace) -> None:
        """Text that is no name is stored whole: settings, reasons, creators and patterns, and as many patterns as there are."""
        text, settings = 'é' * 2_000, json.dumps({'note': 'é' * 10_000})
        patterns = (*(f'{text}{number}' for number in range(50)), *(f'n{number}' for number in range(250)))
        over = frozenset(f'{number:032x}' for number in range(200))
        leader = namespace.lead(namespace.join('leader', host='h' * 253, settings=settings, replaces=over))
        namespace.commit(leader, reason=text, pins=(Pin(TOKENS + 1, 'x', 'a', pattern=text),), moved=1)
        namespace.lock('x', patterns=patterns, created_by=text)
        node = namespace.node('leader')
        assert (node.host, node.settings, node.replaces) == ('h' * 253, settings, over)
        assert namespace.rebalances()[0].trigger_reason == text
        assert namespace.pins()[TOKENS + 1].pattern == text
        lock = namespace.locks()['x']
        assert (lock.created_by, lock.patterns) == (text, patterns)
        for creator, removed in ((f'{text}x', 0), (text, 1)):
            assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(created_by=creator))) == removed

    def test_long_task_ids(self, namespace: Namespace) -> None:
        """Task ids of 1,800 bytes are stored whole, with patterns and reasons as long, and compared up to the last character.

        The node that claims them may have the longest name: a key of both is longer than either.
        """
        leader = namespace.leader(ODD['longest'])
        tasks = ['é' * 899 + letter for letter in 'ab']
        ref = namespace.join('a')
        namespace.attempt(ref, *tasks)
        namespace.backend.forget_attempts(tasks[:1], DAY, ref)
        namespace.backend.deregister(ref)
        assert namespace.lost() == {tasks[1]: 1}
        namespace.backend.forget_attempts(tasks[1:], DAY)
        assert namespace.lost() == {}
        self.check_tasks(namespace, leader, tasks)
        namespace.commit(leader, pins=tuple(Pin(TOKENS + number, task, leader.name) for number, task in enumerate(tasks, 1)))
        assert [pin.task_id for pin in namespace.pins().values()] == tasks

    def test_longer_task_ids(self, namespace: Namespace) -> None:
        """Task ids of four thousand bytes are stored as well, or refused by each call that would write one."""
        leader, tasks = namespace.leader(), ['é' * 1_999 + letter for letter in 'ab']
        before = namespace.state()
        try:
            self.check_tasks(namespace, leader, tasks)
        except UnsupportedOperation:
            for call in (
                partial(namespace.lock, 'x', *tasks),
                partial(namespace.claim, leader, 'x', *tasks),
                partial(namespace.audit, 'leader', 'x', *tasks),
            ):
                with pytest.raises(UnsupportedOperation):
                    call()
            assert namespace.state() == before

    def check_tasks(self, namespace: Namespace, leader: NodeRef, tasks: list[str]) -> None:
        """Lock and claim tasks, complete the first of two, and read them."""
        namespace.lock(*tasks, patterns=('p' * 2_000,), reason='r' * 2_000)
        namespace.backend.append_claims(leader, tasks, DAY, 0)
        namespace.backend.append_audits(leader.name, tasks[:1], DAY)
        assert [(lock.task_id, lock.patterns, lock.reason) for lock in namespace.locks().values()] == [
            (task, ('p' * 2_000,), 'r' * 2_000) for task in tasks
        ]
        assert [claim.item for claim in namespace.backend.incomplete(DAY, dt.timedelta(0))] == tasks[1:]
