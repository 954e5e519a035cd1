"""The rivals: which environment and module each runs in, what it can be asked, and what on our side does the same work.

``service('skip-locked').start(url=…)`` is a process that answers the verbs named here; ``LibraryUnavailable`` is raised if its
environment cannot be made. Importing this imports no rival.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from benchmarks.libraries.environments import python_of
from benchmarks.libraries.ids import KINDS
from benchmarks.libraries.process import LibraryProcess

__all__ = ['RINGS', 'SERVICES', 'Service', 'Verb', 'service']


@attrs.frozen
class Verb:
    """A run that a library makes."""

    name: str
    means: str
    ours: str
    """The part of jobsync that does the same work; empty without one."""


@attrs.frozen
class Service:
    """One kind of work of a library: a process of its environment."""

    name: str
    rival: str
    """The name of the environment (``environments.PINS``)."""
    module: str
    arguments: tuple[str, ...]
    """The arguments of ``start``, in the order of the module."""
    about: str
    """A description for readers of a report."""
    verbs: Mapping[str, Verb]
    always: tuple[str, ...] = ()
    """The module's first arguments."""

    def start(self, **arguments: object) -> LibraryProcess:
        """Start a process of the service with its arguments. Raises ``LibraryUnavailable``."""
        if arguments.keys() != set(self.arguments):
            raise TypeError(f'{self.name} takes {", ".join(self.arguments)}')
        told = (*self.always, *(str(arguments[name]) for name in self.arguments))
        return LibraryProcess(str(python_of(self.rival)), self.module, *told)


def _verbs(*verbs: tuple[str, str, str]) -> dict[str, Verb]:
    return {name: Verb(name, means, ours) for name, means, ours in verbs}


_ROUND = (
    ('fill', "before a round: make its tasks, and forget earlier ones (seconds)", 'the tasks scenario'),
    ('recorded', "after a round: how many of its tasks are on record as done", 'the tasks scenario'),
)  # fmt: skip


def _ring(name: str, rival: str, about: str) -> Service:
    judged = (
        'placement NODES TOKENS joins|leaves',
        'how even, what moves, what a look costs: placing.change',
        'the placement scenario',
    )
    return Service(name, rival, 'benchmarks.libraries.rings', ('library',), about, _verbs(judged))


_ALL = (
    Service(
        'peer tasks',
        'peer',
        'benchmarks.libraries.peer_tasks',
        ('port', 'role', 'node'),
        'jobsync 1.3.14, default settings',
        _verbs(
            *_ROUND,
            ('steps', 'can_claim_task, add_task, and write_audit at the end', 'the tasks scenario'),
            ('tokens', 'how many tokens the node has', 'the tasks scenario'),
        ),
    ),
    Service(
        'peer claim',
        'peer',
        'benchmarks.libraries.peer_claim',
        ('port', 'role', 'calls'),
        'jobsync 1.3.14, default settings; two of its nodes share the tokens; seconds of CPU',
        _verbs(
            *(
                (f'{kind} {int(owned)}', f'can_claim_task of an id that it {"owns" if owned else "does not own"}', 'claim')
                for kind in KINDS
                for owned in (True, False)
            )
        ),
    ),
    Service(
        'peer plan',
        'peer',
        'benchmarks.libraries.peer_plan',
        ('change', 'nodes', 'tokens'),
        'jobsync 1.3.14; the change is first, join, leave or nothing',
        _verbs(('plan', 'who gets which token, in memory (seconds)', 'plan: Task.plan')),
    ),
    Service(
        'peer joining',
        'peer',
        'benchmarks.libraries.peer_store',
        ('port', 'role', 'tokens', 'nodes'),
        'jobsync 1.3.14, its monitors run once an hour; the leader of nodes that exist only as rows',
        _verbs(
            ('join', 'distribute, when one more has joined (seconds)', 'LeaderDriver.join'),
            ('leave', 'distribute, when that one has left', 'LeaderDriver.leave'),
            ('nothing', 'distribute, when nothing has changed', 'LeaderDriver.nothing'),
        ),
        ('joining',),
    ),
    Service(
        'peer trails',
        'peer',
        'benchmarks.libraries.peer_store',
        ('port', 'role', 'tokens', 'number'),
        'jobsync 1.3.14, its monitors run once an hour; it owns all tokens',
        _verbs(
            ('locks', 'register_locks_bulk of so many (seconds)', 'the bulk scenario: locks'),
            ('claims', 'set_claim of a list of so many', 'the bulk scenario: claims'),
            ('audits', 'write_audit of so many', 'the bulk scenario: audits'),
            ('add_task', 'the loop of add_task before the last write_audit', 'the bulk scenario: add_task'),
        ),
        ('trails',),
    ),
    Service(
        'peer idle',
        'peer',
        'benchmarks.libraries.peer_idle',
        ('port', 'role', 'wait_on_enter'),
        'jobsync 1.3.14, default settings; an idle node',
        _verbs(
            ('leads', 'whether it leads the cluster', 'the idle scenario: leads'),
            ('tokens', 'how many tokens it has', 'the idle scenario: tokens'),
            ('cpu', 'seconds of CPU so far', 'the idle scenario: cpu'),
            ('mb', 'memory above the imports, MB', 'the idle scenario: mb'),
        ),
    ),
    Service(
        'skip-locked',
        'skip-locked',
        'benchmarks.libraries.skip_locked',
        ('url',),
        'a table, read with FOR UPDATE SKIP LOCKED; without affinity: any worker may get any task',
        _verbs(
            *_ROUND,
            ('one', 'take and delete one, do it, commit', 'the tasks scenario'),
            ('kept', 'mark one as begun, commit, do it, mark it as done, commit', 'the tasks scenario'),
            ('batch', 'take and delete a hundred, do them, commit', 'the tasks scenario'),
            ('decide', 'find out whether a given task is free, and lock it', 'can_claim_task'),
        ),
    ),
    Service(
        'procrastinate',
        'procrastinate',
        'benchmarks.libraries.procrastinate_jobs',
        ('url',),
        'coroutine jobs, a worker with default settings that ends when no job is left',
        _verbs(
            *_ROUND,
            ('one', 'a worker with one job at a time', 'the tasks scenario'),
            ('many', 'a worker with ten jobs at a time', 'the tasks scenario'),
        ),
    ),
    Service(
        'tooz',
        'tooz',
        'benchmarks.libraries.tooz_member',
        ('url', 'member', 'watch_sec'),
        'a partitioned group: a hash ring in each member, updated at intervals; until then two members own one task',
        _verbs(
            ('join', 'become a member, to when its own ring was made', 'the takeover scenario: entering'),
            ('leave', 'leave the group', 'the takeover scenario: leaving'),
            ('ring', 'the members of its ring, and the moment it last changed', 'the takeover scenario: settled'),
            ('lookup KIND OWNED CALLS', 'belongs_to_self of an id (seconds of CPU)', 'can_claim_task'),
        ),
    ),
    _ring('uhashring', 'uhashring', 'its HashRing, 160 points a node'),
    _ring('rendezvous', 'rendezvous', 'clandestined, RendezvousHash: murmur3, in C'),
    _ring('tooz ring', 'tooz', 'its HashRing, 32 points a node'),
)  # fmt: skip

SERVICES: Mapping[str, Service] = {each.name: each for each in _ALL}


RINGS = ('uhashring', 'rendezvous', 'tooz ring')
"""The services that place keys."""


def service(name: str) -> Service:
    """Return the service of that name."""
    return SERVICES[name]
