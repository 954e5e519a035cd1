"""Small clusters to which one thing happens: a script on the simulated world, with nothing left to chance but latencies.

Each scenario says what broke, if anything did. Storms meet most of them too, but only one in hundreds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

import attrs

from jobsync._core.agent import commands
from jobsync._core.agent.monitor import STANDBYS
from jobsync._core.records import Node
from jobsync.testing.simulation import World, WorldConfig
from jobsync.testing.simulation.node import WORK, NodeFault, SimNode
from jobsync.testing.simulation.operators import Operators
from jobsync.testing.simulation.settlement import unsettled

SHORT, LONG = (5.0, 15.0), (5.0, 60.0)
"""Heartbeat interval and timeout."""


class Stage:
    """A quiet world, in which nothing happens that the scenario does not say."""

    def __init__(self, *, push: bool = True, tokens: int = 24, gathers: bool = False) -> None:
        self.world = World(0, WorldConfig(nodes=3, tokens=tokens))
        self.world.quiet, self.world.push, self.world.store.durable, self.world.grace_sec = True, push, True, 0.0
        self.world.hosts, self.world.gathers = 0, gathers
        self._late: list[str] = []

    def start(self, name: str, timing: tuple[float, float] = SHORT, tokens: int | None = None) -> SimNode:
        """Start a process."""
        self.world.timings = (timing,)
        settings = attrs.evolve(self.world.settings, total_tokens=tokens or self.world.pool)
        return self.world.spawn(name, weight=1.0, settings=settings)

    def cluster(self, *timings: tuple[float, float]) -> list[SimNode]:
        """Start a process for each timing, one after the other, the first of them leading, and let them settle."""
        nodes = []
        for number, timing in enumerate(timings):
            nodes.append(self.start(f'w{number}', timing))
            self.run(8.0)
        self.run(60.0)
        assert not any(unsettled(self.world))
        return nodes

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run_until(self.world.now + seconds)

    def expect(self, goal: Callable[[], bool], within: float, complaint: str) -> None:
        """Let time pass until the goal is reached; complain if that is not so in time."""
        for _ in self.world.steps(self.world.now + within):
            if goal():
                return
        self.complain(f'{complaint} after {within:g} s')

    def complain(self, text: str) -> None:
        """Remember that something broke."""
        self._late.append(text)

    def expect_settled(self, within: float) -> None:
        """Let time pass until every promise holds that can be held when all is quiet."""
        self.expect(lambda: not any(unsettled(self.world)), within, 'it is not settled')

    def broken(self) -> list[str]:
        """Say what broke."""
        outcome = self.world.outcome(self._late)
        return [*outcome.violations, *outcome.broken, *outcome.unsettled]

    # --- what an operator does ----------------------------------------------------------------------------------------------

    def delete(self, node: SimNode, *, tokens: bool = True) -> Node:
        """Delete the row of a node by hand, and those of its tokens; return the node's record."""
        world = self.world
        space = world.store.spaces[world.namespace]
        record = space.state.nodes[node.name]
        world.store.delete_node_row(world.namespace, node.name)
        if tokens:
            owned = [token for token, row in enumerate(space.assignment.rows) if row is not None and row.owner == node.name]
            world.store.delete_token_rows(world.namespace, owned)
        world.announce()
        return record

    def put_back(self, record: Node) -> None:
        """Put a node's row back as it was."""
        self.world.store.insert_node_row(self.world.namespace, record)
        self.world.announce()


def a_patient_node_is_deleted() -> list[str]:
    """A node with a long timeout is cut off, and all its rows are deleted by hand: its lease runs on."""
    stage = Stage()
    *_, patient = stage.cluster(SHORT, SHORT, LONG)
    patient.cut_until = stage.world.now + 50.0
    stage.delete(patient)
    stage.run(50.0)
    stage.expect_settled(90.0)
    return stage.broken()


def a_patient_node_outlives_a_rollback() -> list[str]:
    """A node with a long timeout is cut off, and the store fails over to another: no record of the node is left."""
    stage = Stage()
    *_, patient = stage.cluster(SHORT, SHORT, LONG)
    patient.cut_until = stage.world.now + 50.0
    stage.world.store.restore(stage.world.store.image(), 'another store')
    stage.run(50.0)
    stage.expect_settled(90.0)
    return stage.broken()


def a_patient_node_is_cut_off() -> list[str]:
    """A node with a long timeout is cut off for less than that."""
    stage = Stage()
    *_, patient = stage.cluster(SHORT, SHORT, LONG)
    patient.cut_until = stage.world.now + 40.0
    stage.run(40.0)
    stage.expect_settled(10.0)
    return stage.broken()


def a_row_is_put_back() -> list[str]:
    """The row of a node that is cut off is deleted, its tokens pass on, the row is put back, and the node is there again."""
    stage = Stage(push=False)
    *_, lost = stage.cluster(SHORT, SHORT, SHORT)
    lost.cut_until = stage.world.now + 40.0
    lost.fault = NodeFault(WORK, hangs=False, until=lost.cut_until + 1.0)  # so that a heartbeat gets through first
    record = stage.delete(lost, tokens=False)
    stage.run(39.9)
    stage.put_back(record)
    stage.expect_settled(40.0)
    return stage.broken()


def a_row_is_put_back_for_a_moment() -> list[str]:
    """The row of the oldest node is deleted, put back, and deleted again: its last heartbeat came in between.

    t=0   its row is deleted, and it cannot reach the store; the next in line leads, and waits
    t=10  the row is put back, and a heartbeat succeeds; the leader reads that, and makes no plan while an older node is there
    t=13  the row is deleted again, and the node is cut off: the wait begins anew
    """
    stage = Stage()
    oldest, *_ = stage.cluster(SHORT, SHORT, SHORT)
    oldest.fault = NodeFault(WORK, hangs=False, until=float('inf'))
    oldest.cut_until = stage.world.now + 9.9
    record = stage.delete(oldest, tokens=False)
    stage.run(9.8)
    stage.put_back(record)
    before = oldest.agent.lease.deadline
    stage.expect(lambda: oldest.agent.lease.deadline > before, 3.0, 'there was no heartbeat')
    stage.run(0.5)
    oldest.cut_until = stage.world.now + 30.0
    stage.delete(oldest, tokens=False)
    stage.run(30.0)
    oldest.heal()
    stage.expect_settled(40.0)
    return stage.broken()


def _outages(begin: Callable[[World, float], None], lengths: Iterable[float]) -> list[str]:
    """The store is out of order for a while, again and again: the same runs own the same tokens all the while."""
    stage = Stage()
    nodes = stage.cluster(SHORT, SHORT, SHORT)
    before = [(node.agent.ref, node.ownership.tokens) for node in nodes]
    for seconds in lengths:
        begin(stage.world, stage.world.now + seconds)
        stage.run(seconds + 20.0)
        if [(node.agent.ref, node.ownership.tokens) for node in nodes] != before:
            return [f'P4: something moved in {seconds:g} s', *stage.broken()]
    return stage.broken()


def the_store_is_away() -> list[str]:
    """Outages of every length from one interval to four timeouts, at every point of the nodes' intervals."""

    def begin(world: World, until: float) -> None:
        world.down_until = until

    return _outages(begin, [5.0 + 0.9 * step for step in range(61)])


def the_store_refuses_writes() -> list[str]:
    """The same where the store answers reads."""

    def begin(world: World, until: float) -> None:
        world.read_only_until = until

    return _outages(begin, [5.0 + 2.9 * step for step in range(20)])


def the_store_refuses_everybody() -> list[str]:
    """The same where the store says that nobody has the right."""

    def begin(world: World, until: float) -> None:
        for node in world.living():
            node.refused_until = until

    return _outages(begin, [3.0, 12.0, 40.0])


def the_work_of_the_leader_hangs() -> list[str]:
    """The leader's work does not return while its heartbeats go on, and another node dies."""
    return _stuck(NodeFault(WORK, hangs=True, until=float('inf')))


def the_commits_of_the_leader_are_refused() -> list[str]:
    """Every commit of the leader fails while everything else of it succeeds, and another node dies."""
    return _stuck(NodeFault((commands.PlanAndCommit,), hangs=False, until=float('inf')))


def _stuck(fault: NodeFault) -> list[str]:
    stage = Stage()
    leader, _, victim = stage.cluster(SHORT, SHORT, SHORT)
    leader.fault = fault
    victim.alive = False
    stage.expect(lambda: not any('token' in text for text in unsettled(stage.world)), 50.0, 'tokens are not owned')
    leader.heal()
    stage.expect_settled(30.0)
    return stage.broken()


def calls_of_the_leader_fail_now_and_then() -> list[str]:
    """For half of the time the leader cannot read while its heartbeats go on, and another node dies: owned again in time (P3)."""
    stage = Stage()
    leader, _, victim = stage.cluster(SHORT, SHORT, SHORT)
    victim.alive = False
    for _ in range(6):
        leader.fault = NodeFault((commands.TakeSnapshot,), hangs=False, until=stage.world.now + 2.0)
        stage.run(4.0)
    stage.expect_settled(1.0)
    return stage.broken()


def the_clock_of_the_store_jumps() -> list[str]:
    """The store's clock is wrong by a month, forwards and back."""
    stage = Stage()
    nodes = stage.cluster(SHORT, SHORT, SHORT)
    before = [(node.agent.ref, node.ownership.tokens) for node in nodes]
    for days in (30, 60, 0, 30, -30, 30, 60, 90):
        stage.world.clock_is_off = dt.timedelta(days=days)
        stage.run(6.1)
    after = [(node.agent.ref, node.ownership.tokens) for node in nodes]
    return stage.broken() + ([] if after == before else ['something moved'])


def the_store_goes_back() -> list[str]:
    """The store fails over to another that has lost the last hand-over, while a node that knows nothing of it is cut off.

    t=0  w1 is cut off; w2, which owned nothing, is to have its share, and w0 hands it tokens
    t=6  the store goes back to where w0 has them, and w0 dies
    t=9  w1 is there again, and finds that it leads and that w0 has left those tokens to be given away
    """
    stage = Stage()
    first, ignorant, last = stage.cluster(SHORT, SHORT, SHORT)
    last.weigh(0.0)
    stage.run(30.0)
    image = stage.world.store.image()
    ignorant.cut_until = stage.world.now + 9.0
    last.weigh(1.0)
    stage.run(6.0)
    assert not last.ownership.is_empty
    stage.world.store.restore(image, 'another store')
    first.alive = False
    stage.run(30.0)
    stage.expect_settled(30.0)
    return stage.broken()


def the_store_goes_back_to_a_lower_position() -> list[str]:
    """The store goes back under the same identity, and only its position tells the node that is left.

    t=0  w0, which beats every 15 s, sends a heartbeat; an image is taken
    t=3  it looks: the others have written since, but no revision has risen
    t=9  the others die, the store goes back to the image, and the edit of a lock raises the revision
    """
    stage = Stage()
    first, *others = stage.cluster((15.0, 60.0), *[SHORT] * 5)
    world = stage.world

    def counter() -> int:
        return world.store.spaces[world.namespace].state.nodes[first.name].heartbeat

    before = counter()
    stage.expect(lambda: counter() > before, 20.0, 'there was no heartbeat')
    image = world.store.image()
    stage.run(9.0)
    assert counter() == before + 1
    for other in others:
        other.alive = False
    world.store.restore(image)
    world.edit_lock('t0', ('w0',))
    stage.expect(lambda: world.store.spaces[world.namespace].state.timeline.generation == 1, 20.0, 'it was not noticed')
    stage.expect_settled(90.0)
    return stage.broken()


def an_owner_is_far_from_the_store() -> list[str]:
    """A task lock is made every second for a minute, and one of three nodes needs longer to acknowledge: no token waits long."""
    stage = Stage()
    nodes = stage.cluster(SHORT, SHORT, SHORT)
    world, (*_, far) = stage.world, nodes
    far.distance_sec = 0.4
    stage.start('w3')
    since = dict[int, float]()
    for number in range(60):
        world.edit_lock(f'x{number % 40}', (nodes[number % 3].name,))
        for _ in world.steps(world.now + 1.0):
            owned = {token for node in world.living() if node.has_lease() for token in node.ownership.tokens}
            since = {token: since.get(token, world.now) for token in range(world.pool) if token not in owned}
            if waiting := [token for token, at in since.items() if world.now - at > 10.0]:
                stage.complain(f'P2: tokens {waiting} have no owner for more than ten seconds')
                return stage.broken()
    stage.expect_settled(20.0)
    return stage.broken()


def the_leader_of_a_slow_store_dies() -> list[str]:
    """Each call takes six seconds, which is more than a heartbeat interval, and the leader dies: another one leads (P3)."""
    stage = Stage()
    leader, *others = stage.cluster(SHORT, SHORT, SHORT, SHORT)
    for node in (leader, *others):
        node.distance_sec = 3.0
    stage.run(40.0)
    leader.alive = False
    stage.expect(lambda: not any('token' in text for text in unsettled(stage.world)), 100.0, 'tokens are not owned')
    return stage.broken()


def locks_are_edited_without_a_pause() -> list[str]:
    """Two loops edit task locks while a node joins, which is to have its share while they go on."""
    stage = Stage()
    stage.cluster(SHORT, SHORT)
    Operators(stage.world).edit_until(stage.world.now + 6.0)
    newcomer = stage.start('w2')
    stage.expect(lambda: not newcomer.ownership.is_empty, 2.0, 'the newcomer owns nothing')
    stage.expect_settled(10.0)
    return stage.broken()


def a_record_is_spoilt() -> list[str]:
    """The record of a node that died is made unreadable, and that of a lock: its tokens pass on, and so do another's."""
    stage = Stage()
    _, spoilt, other, *_ = stage.cluster(SHORT, SHORT, SHORT, SHORT)
    world = stage.world
    world.edit_lock('t0', ('w3',))
    world.edit_lock('t1', ('w3',))
    stage.run(5.0)
    spoilt.alive = other.alive = False
    world.store.spoil_node(world.namespace, spoilt.name)
    world.store.spoil_lock(world.namespace, 't1')
    stage.expect_settled(30.0)
    return stage.broken()


def other_settings_while_all_are_cut_off() -> list[str]:
    """Every node is cut off when one with another size of pool starts: it must not take what they still own."""
    stage = Stage()
    nodes = stage.cluster(SHORT, SHORT, SHORT)
    for node in nodes:
        node.cut_until = stage.world.now + 8.0
    newcomer = stage.start('w9', tokens=stage.world.pool + 7)
    stage.run(20.0)
    if newcomer.alive:
        return ['the newcomer was not refused', *stage.broken()]
    stage.expect_settled(10.0)
    return stage.broken()


def other_settings_after_a_crash() -> list[str]:
    """Every node has died when one with another size of pool starts: it takes over once they are proved dead."""
    stage = Stage()
    for node in stage.cluster(SHORT, SHORT, LONG):
        node.alive = False
    tokens = stage.world.pool + 7
    stage.start('w9', tokens=tokens)
    stage.expect(lambda: stage.world.pool == tokens, 70.0, 'the settings are not replaced')
    stage.expect_settled(70.0)
    return stage.broken()


def a_lock_is_given_to_another_task() -> list[str]:
    """An operator puts another task into the row of a lock: the first task's pin and the second's have one number."""
    stage = Stage()
    first, *_ = stage.cluster(SHORT, SHORT, SHORT)
    world = stage.world
    world.edit_lock('t0', (first.name,))
    stage.expect_settled(5.0)
    first.begin('t0', 6.0)
    world.store.rename_lock(world.namespace, 't0', 't3')
    world.announce()
    stage.run(3.0)
    stage.expect_settled(10.0)
    return stage.broken()


def the_rows_of_tokens_go_before_that_of_their_owner() -> list[str]:
    """The rows of a node's tokens are deleted, which it cannot read; it beats and is cut off; then its own row is deleted.

    t=0   the rows of the tokens are deleted; the leader begins to wait
    t=4   the owner beats, and its lease runs for a timeout from here; its readings fail, and it is cut off
    t=4   its row is deleted: the leader begins to wait for it as well
    t=15  the tokens have been without a row for a timeout, and all nodes that have a record have seen that
    """
    stage = Stage()
    *_, owner = stage.cluster(SHORT, SHORT, SHORT)
    world = stage.world

    def deadline() -> float:
        return owner.agent.lease.deadline

    before = deadline()
    stage.expect(lambda: deadline() > before, 6.0, 'there was no heartbeat')
    owner.fault = NodeFault((commands.ReadAssignment,), hangs=False, until=float('inf'))
    space = world.store.spaces[world.namespace]
    tokens = [token for token, row in enumerate(space.assignment.rows) if row is not None and row.owner == owner.name]
    world.store.delete_token_rows(world.namespace, tokens)
    world.announce()
    stage.run(3.0)
    before = deadline()
    stage.expect(lambda: deadline() > before, 6.0, 'there was no heartbeat')
    owner.cut_until = world.now + 40.0
    stage.delete(owner, tokens=False)
    stage.run(40.0)
    owner.heal()
    stage.expect_settled(40.0)
    return stage.broken()


def the_only_node_that_may_own_tokens_is_stuck() -> list[str]:
    """The other node is drained; it leads, because every commit of the first fails, and takes nothing away from it."""
    stage = Stage()
    stuck, drained = stage.cluster(SHORT, SHORT)
    drained.weigh(0.0)
    stage.run(20.0)
    before = stuck.ownership.tokens
    stuck.fault = NodeFault((commands.PlanAndCommit,), hangs=False, until=float('inf'))
    stage.world.edit_lock('t1', (stuck.name,))
    stage.expect(lambda: before > stuck.ownership.tokens, 60.0, 'all is well')
    lost = before - stuck.ownership.tokens
    stage.expect(lambda: drained.agent.epoch is not None, 0.0, 'the drained node does not lead')
    return [f'{len(lost)} tokens were taken away'] if lost else []


def more_die_than_one_commit_removes() -> list[str]:
    """Five of six nodes die at once on a store whose commits carry two removals."""
    stage = Stage()
    _, *victims = stage.cluster(*[SHORT] * 6)
    for victim in victims:
        victim.alive = False
    stage.expect_settled(20.0)
    return stage.broken()


def nodes_far_behind_in_line_gain_and_die(*, step_sec: float = 1.0) -> list[str]:
    """Nodes that neither lead nor are next in line hand over within a second (P2), and replace one that dies in time (P3)."""
    stage = Stage()
    world = stage.world
    world.misleads = False
    *_, one, other = stage.cluster(*[SHORT] * (STANDBYS + 3))
    for gaining in (one, other):
        stage.run(SHORT[0])
        world.edit_lock('t1', (gaining.name,))
        stage.expect(lambda node=gaining: node.works_on('t1'), step_sec, f'{gaining.name} may not claim')  # type: ignore[misc]
        stage.expect_settled(step_sec)
    other.leave()
    stage.expect(lambda: not other.alive, step_sec, f'{other.name} has not left')
    stage.expect_settled(step_sec)
    stage.run(12 * SHORT[0])
    one.alive = False
    stage.expect_settled(SHORT[1] + 1.0 + step_sec)
    return stage.broken()


def five_of_fifty_die() -> list[str]:
    """Five followers die together, just after their heartbeats: owned again within the timeout and 2 s (P3)."""
    return _five_of_fifty(10, 20, 30, 40, 49, within=17.0)


def five_of_fifty_die_with_their_leader() -> list[str]:
    """The leader, the next in line and three more die together: owned again as soon (P3)."""
    return _five_of_fifty(0, 1, 20, 30, 49, within=17.0)


def the_five_oldest_of_fifty_die() -> list[str]:
    """The leader and the four that are next in line die together: owned again as soon (P3)."""
    return _five_of_fifty(0, 1, 2, 3, 4, within=17.0)


def _five_of_fifty(*numbers: int, within: float) -> list[str]:
    stage = Stage(tokens=200)
    world = stage.world
    nodes = {f'w{number}': stage.start(f'w{number}') for number in range(50)}
    stage.run(60.0)
    oldest_first = [node.name for node in world.backend.snapshot().nodes]

    def counter() -> int:
        return world.store.spaces[world.namespace].state.nodes[oldest_first[0]].heartbeat

    before = counter()
    stage.expect(lambda: counter() > before, 6.0, 'there was no heartbeat')
    stage.run(0.8)
    for number in numbers:
        nodes[oldest_first[number]].alive = False
    tokens = (1 << world.pool) - 1

    def all_owned() -> bool:
        owned = 0
        for node in world.living():
            owned |= node.claims() >> world.shift(world.pool)
        return owned & tokens == tokens

    stage.run(10.0)
    stage.expect(all_owned, within - 10.0, 'tokens are not owned')
    return stage.broken()


def one_is_stopped_and_one_is_killed() -> list[str]:
    """Of the processes of one host one is stopped, which keeps its lease, and then another is killed, which is known at once."""
    stage = Stage()
    stage.world.hosts = 1
    _, stopped, killed, _ = stage.cluster(*[SHORT] * 4)
    before = stopped.ownership.tokens
    stopped.paused_until = stage.world.now + 8.0
    killed.alive = False
    stage.run(8.1)
    if stopped.ownership.tokens < before:
        return ['the stopped process has lost tokens', *stage.broken()]
    stage.expect_settled(3.0)
    return stage.broken()


def one_is_killed_and_started_again() -> list[str]:
    """A process is killed and started again under its name, while the others, which know that it is over, are cut off."""
    stage = Stage()
    stage.world.hosts = 1
    *others, killed = stage.cluster(*[SHORT] * 3)
    before = killed.ownership.tokens
    for other in others:
        other.cut_until = stage.world.now + 1.5
    killed.alive = False
    again = stage.start(killed.name)
    stage.expect(lambda: again.ownership.tokens == before and again.has_lease(), 5.0, 'the name is not taken over')
    stage.expect_settled(5.0)
    return stage.broken() if again.ownership.tokens == before else ['the process that was started again has lost tokens']


def all_of_a_host_are_killed() -> list[str]:
    """Every process of a host is killed, the leader with them, and others are started there under other names."""
    stage = Stage()
    stage.world.hosts = 1
    for node in stage.cluster(*[SHORT] * 3):
        node.alive = False
    for name in ('w7', 'w8', 'w9'):
        stage.start(name)
    stage.expect_settled(5.0)
    return stage.broken()


def one_is_killed_on_a_host_of_its_own() -> list[str]:
    """A process is killed whose host has no other: it is over for the others after its timeout, and no sooner."""
    stage = Stage()
    stage.world.hosts = 1
    *_, killed = stage.cluster(*[SHORT] * 3)
    killed.host = 1
    killed.alive = False
    stage.run(9.0)
    if not any(unsettled(stage.world)):
        return ['it was over for the others before its timeout']
    stage.expect_settled(10.0)
    return stage.broken()
