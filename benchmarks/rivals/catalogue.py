"""The rivals: which environment and module each runs in, what it can be asked, and what on our side does the same work.

``service('skip-locked').start(url=…)`` is a process that answers the verbs named here; ``RivalUnavailable`` is raised if its
environment cannot be made. Importing this imports no rival.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from benchmarks.claim_ids import KINDS
from benchmarks.compare import Other
from benchmarks.rivals.environments import python_of

__all__ = ['RINGS', 'SERVICES', 'Service', 'Verb', 'service']


@attrs.frozen
class Verb:
    """A run that a rival makes."""

    name: str
    means: str
    ours: str
    """What does the same work on our side; empty where nothing does."""


@attrs.frozen
class Service:
    """A rival at one kind of work: a process of its environment."""

    name: str
    rival: str
    """Its environment (``environments.PINS``)."""
    module: str
    arguments: tuple[str, ...]
    """What ``start`` has to be given, in the module's order."""
    about: str
    """What a reader of a report has to know of it."""
    verbs: Mapping[str, Verb]
    always: tuple[str, ...] = ()
    """What its module is told before the arguments."""

    def start(self, **arguments: object) -> Other:
        """A process of it; the ``arguments`` are those it names. Raises ``RivalUnavailable``."""
        if arguments.keys() != set(self.arguments):
            raise TypeError(f'{self.name} takes {", ".join(self.arguments)}')
        told = (*self.always, *(str(arguments[name]) for name in self.arguments))
        return Other(str(python_of(self.rival)), self.module, *told)


def _verbs(*verbs: tuple[str, str, str]) -> dict[str, Verb]:
    return {name: Verb(name, means, ours) for name, means, ours in verbs}


_ROUND = (
    ('fill', "before a round: make its tasks, and forget earlier ones (seconds)", 'endtoend_worker: fill'),
    ('recorded', "after a round: how many of its tasks are on record as done", 'endtoend_worker: recorded'),
)  # fmt: skip


def _ring(name: str, rival: str, about: str) -> Service:
    judged = ('placement NODES TOKENS joins|leaves', 'how even, what moves, what a look costs: placing.change', 'placement.ours')
    return Service(name, rival, 'benchmarks.rivals.rings', ('library',), about, _verbs(judged))


_ALL = (
    Service(
        'peer tasks',
        'peer',
        'benchmarks.rivals.peer_tasks',
        ('port', 'role', 'node'),
        'jobsync 1.3.14, default settings',
        _verbs(
            *_ROUND,
            ('steps', 'can_claim_task, add_task, and write_audit at the end', 'endtoend_worker: claim'),
            ('tokens', 'how many tokens the node has', 'endtoend_worker: tokens'),
        ),
    ),
    Service(
        'peer claim',
        'peer',
        'benchmarks.rivals.peer_claim',
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
        'benchmarks.rivals.peer_plan',
        ('change', 'nodes', 'tokens'),
        'jobsync 1.3.14; the change is first, join, leave or nothing',
        _verbs(('plan', 'who gets which token, in memory (seconds)', 'plan: Task.plan')),
    ),
    Service(
        'peer joining',
        'peer',
        'benchmarks.rivals.peer_store',
        ('port', 'role', 'tokens', 'nodes'),
        'jobsync 1.3.14, its monitors told to look once an hour; it leads nodes that are rows',
        _verbs(
            ('join', 'distribute, when one more has joined (seconds)', 'store_join: Leader.join'),
            ('leave', 'distribute, when that one has left', 'store_join: Leader.leave'),
            ('nothing', 'distribute, when nothing has changed', 'store_join: Leader.nothing'),
        ),
        ('joining',),
    ),
    Service(
        'peer trails',
        'peer',
        'benchmarks.rivals.peer_store',
        ('port', 'role', 'tokens', 'number'),
        'jobsync 1.3.14, its monitors told to look once an hour; it owns everything',
        _verbs(
            ('locks', 'register_locks_bulk of so many (seconds)', 'store_trails: locks'),
            ('claims', 'set_claim of a list of so many', 'store_trails: claims'),
            ('audits', 'write_audit of so many', 'store_trails: audits'),
            ('add_task', 'the loop of add_task before the last write_audit', 'store_trails: add_task'),
        ),
        ('trails',),
    ),
    Service(
        'peer idle',
        'peer',
        'benchmarks.idle_node',
        ('port', 'role', 'wait_on_enter'),
        'jobsync 1.3.14, default settings; a node that does nothing',
        _verbs(
            ('leads', 'whether it leads the cluster', 'idle_node: leads'),
            ('tokens', 'how many tokens it has', 'idle_node: tokens'),
            ('cpu', 'seconds of CPU so far', 'idle_node: cpu'),
            ('mb', 'memory above the imports, MB', 'idle_node: mb'),
        ),
        ('peer',),
    ),
    Service(
        'skip-locked',
        'skip-locked',
        'benchmarks.rivals.skip_locked',
        ('url',),
        'a table taken from with FOR UPDATE SKIP LOCKED; it keeps no affinity: any worker may get any task',
        _verbs(
            *_ROUND,
            ('one', 'take and delete one, do it, commit', 'endtoend_worker: claim'),
            ('kept', 'mark one as begun, commit, do it, mark it as done, commit', 'endtoend_worker: claim'),
            ('batch', 'take and delete a hundred, do them, commit', 'endtoend_worker: claim'),
            ('decide', 'find out whether a given task is free, and lock it', 'can_claim_task'),
        ),
    ),
    Service(
        'procrastinate',
        'procrastinate',
        'benchmarks.rivals.procrastinate_jobs',
        ('url',),
        'coroutine jobs, a worker as it is by default but for ending when nothing is left',
        _verbs(
            *_ROUND,
            ('one', 'a worker with one job at a time', 'endtoend_worker: claim'),
            ('many', 'a worker with ten jobs at a time', 'endtoend_worker: claim'),
        ),
    ),
    Service(
        'tooz',
        'tooz',
        'benchmarks.rivals.tooz_member',
        ('url', 'member', 'watch_sec'),
        'a partitioned group: a hash ring in each member, brought up to date when it looks; until then two own the same',
        _verbs(
            ('join', 'become a member, to when its own ring was made', 'takeover: entering'),
            ('leave', 'leave the group', 'takeover: leaving'),
            ('ring', 'the members of its ring, and the moment it last changed', 'takeover: settled'),
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
    """A rival's service by its name."""
    return SERVICES[name]
