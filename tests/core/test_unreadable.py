"""Records that cannot be read (rule R9): they are told of, and nothing waits for them."""

from __future__ import annotations

import attrs
import pytest
from tests.core.bench import Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.events import LogMessage
from jobsync._core.agent.unreadable import UnreadableRecords
from jobsync._core.records import LockReading, Snapshot, Unreadable

LOCK = Unreadable('lock', 't0', "expires_at is 'infinity': left out")
NODE = Unreadable('node', 'x', "weight is 'NaN': read as 1")


class SpoiltBench(Bench):
    """A store in which some records are spoilt."""

    spoilt: tuple[Unreadable, ...] = ()

    def perform(self, call: commands.Command) -> commands.Reply:
        """Let the store report them, as a backend does."""
        answer = super().perform(call)
        if isinstance(answer, (Snapshot, LockReading)):
            kind = 'node' if isinstance(answer, Snapshot) else 'lock'
            return attrs.evolve(answer, unreadable=tuple(record for record in self.spoilt if record.kind == kind))
        return answer


def told(agent: Agent) -> list[tuple[str, str]]:
    """What was told of such records since the last time."""
    notes = [event for event in agent.events if isinstance(event, LogMessage) and ' be read ' in event.text]
    agent.events.clear()
    return [(note.level, note.text) for note in notes]


@pytest.mark.parametrize('record', [LOCK, NODE])
def test_a_spoilt_record_is_told_once_by_the_leader(record: Unreadable) -> None:
    """Again when what is wrong with it changes, and when none is left."""
    bench = SpoiltBench()
    leader, follower = bench.cluster('a', 'b')
    told(leader)
    bench.spoilt = (record,)
    bench.start('c')  # which makes the follower look as well
    bench.run(100.0)
    assert told(leader) == [('warning', f'the record of {record.kind} {record.key!r} cannot be read in full: {record.problem}')]
    bench.spoilt = (attrs.evolve(record, problem='worse'),)
    bench.run(100.0)
    assert [text[-5:] for _, text in told(leader)] == ['worse']
    bench.spoilt = ()
    bench.run(100.0)
    assert told(leader) == [('info', f'every record of a {record.kind} can be read again')]
    assert told(follower) == []


def test_the_status_has_what_was_last_read() -> None:
    """Of all kinds; and no more once they are mended."""
    bench = SpoiltBench()
    (agent,) = bench.cluster('a')
    bench.spoilt = (NODE, LOCK)
    bench.run(40.0)
    assert list(agent.unreadable) == [LOCK, NODE]
    bench.spoilt = (NODE,)
    bench.run(40.0)
    assert list(agent.unreadable) == [NODE]


def test_everything_else_goes_on() -> None:
    """A death and a join are dealt with under any leader."""
    bench = SpoiltBench()
    bench.spoilt = (NODE, LOCK)
    leader, victim = bench.cluster('a', 'b')
    bench.kill(victim)
    bench.run(25.0)
    assert len(leader.lease.ownership.tokens) == 4
    bench.start('c')
    bench.run(3.0)
    assert len(leader.lease.ownership.tokens) == 2


def test_an_incarnation_that_starts_over_does_not_tell_it_again() -> None:
    """The log has been told."""
    bench = SpoiltBench()
    (agent,) = bench.cluster('a')
    bench.spoilt = (NODE,)
    bench.run(20.0)
    assert len(told(agent)) == 1
    bench.store.delete_node_row('sync_', 'a')
    bench.run(60.0)
    assert agent.is_settled
    assert told(agent) == []


def test_of_very_many_records_a_few_are_told_one_by_one() -> None:
    """A table spoilt as a whole does not fill the log."""
    notes: list[object] = []
    UnreadableRecords(notes.append).take('lock', tuple(attrs.evolve(LOCK, key=f't{n}') for n in range(5000)), leads=True)
    assert len(notes) == 11
    assert '4990 more' in str(notes[-1])
