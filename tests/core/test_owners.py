"""What may be done with an owner's tokens (rule R5)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.builders import member, node, revision, snapshot

from jobsync._core.leader.owners import OwnerStatus, OwnerTable
from jobsync._core.records import Member, Node

NOW = 100.0
SETTINGS: Any = {'timeout_sec': 15.0, 'longest_timeout_sec': 15.0, 'rejoin_grace_sec': 0.0, 'max_removals': 1000}


def judge(
    *nodes: Node,
    meant: Member | None = None,
    silent: Node | None = None,
    absent: dict[tuple[str, str], float] | None = None,
    now: float = NOW,
) -> OwnerTable:
    """The owner table with ``b`` as an owner, its first run unless said otherwise; ``absent`` is brought up to date."""
    owner_table = OwnerTable.judge(
        snapshot=snapshot(nodes, revision(5)),
        owners=['b'],
        members={'b': meant or member('b')},
        suspects={silent.name: silent.beat} if silent else {},
        absent_since=absent or {},
        now=now,
        **SETTINGS,
    )
    if absent is not None:
        absent.clear()
        absent.update(owner_table.absent_since)
    return owner_table


def test_registered_is_present() -> None:
    """A registered owner keeps its tokens until it lets go of them."""
    owner_table = judge(node('b'))
    assert owner_table.is_present('b')
    assert owner_table.members == {'b': member('b')}


def test_left_is_gone() -> None:
    """The tokens of an owner that left may be given away."""
    owner_table = judge(node('b', left=True))
    assert owner_table.status['b'] is OwnerStatus.GONE
    assert owner_table.members == {}


def test_suspected_is_gone() -> None:
    """An owner that is silent is to be evicted in the commit that gives its tokens away."""
    owner_table = judge(node('b'), silent=node('b'))
    assert owner_table.status['b'] is OwnerStatus.GONE
    assert 'b' not in owner_table.alive


def test_a_suspicion_of_an_older_heartbeat_is_void() -> None:
    """Suspicion falls on a heartbeat: whoever has beaten since is alive."""
    owner_table = judge(node('b', heartbeat=8), silent=node('b', heartbeat=7))
    assert owner_table.is_present('b')


def test_absent_is_waited_for() -> None:
    """An owner without a record may still be working: its tokens wait one timeout from the first reading of that."""
    absent: dict[tuple[str, str], float] = {}
    owner_table = judge(absent=absent)
    assert owner_table.is_waiting('b')
    assert owner_table.due_at == NOW + 15
    assert judge(absent=absent, now=NOW + 14.9).is_waiting('b')
    assert judge(absent=absent, now=NOW + 15).status['b'] is OwnerStatus.GONE


def test_owners_of_rows_written_manually_are_removed_in_turn() -> None:
    """Two names that no version has as members, of nodes that are dead: the one that is too many waits for the next plan."""
    nodes = [node('b'), node('c')]
    owner_table = OwnerTable.judge(
        snapshot=snapshot(nodes, revision(5)),
        owners=['b', 'c'],
        members={},
        suspects={one.name: one.beat for one in nodes},
        absent_since={('b', ''): 0.0, ('c', ''): 0.0},
        now=NOW,
        **{**SETTINGS, 'max_removals': 1},
    )
    assert owner_table.status == {'b': OwnerStatus.GONE, 'c': OwnerStatus.WAITING}
    assert owner_table.members == {}


def test_absent_keeps_what_its_name_means() -> None:
    """While an owner is waited for, its name still means the run that may be working."""
    assert judge().members == {'b': member('b')}
    assert judge(node('b', run=3)).members == {'b': member('b')}


def test_absent_is_waited_for_as_long_as_it_asked() -> None:
    """The timeout of an absent owner is its own, if that is longer than the leader's."""
    assert judge(meant=member('b', timeout_sec=60)).due_at == NOW + 60


def test_the_leaders_timeout_is_the_least() -> None:
    """An absent owner with a shorter timeout than the leader's is waited for as long as the leader's."""
    assert judge(meant=member('b', timeout_sec=1)).due_at == NOW + 15


def test_an_owner_that_is_no_member_is_waited_for() -> None:
    """A name that owns rows and is unknown (written by hand, say) is waited for one timeout too."""
    owner_table = OwnerTable.judge(snapshot([], revision(5)), ['z'], {}, {}, {}, now=NOW, **SETTINGS)
    assert owner_table.is_waiting('z')
    assert owner_table.members == {}


def test_another_incarnation_is_waited_for() -> None:
    """A name registered by another run, which does not declare the owner over, is as good as absent."""
    owner_table = judge(node('b', run=2))
    assert owner_table.is_waiting('b')
    assert not owner_table.is_present('b')


def test_another_incarnation_takes_over_after_the_wait() -> None:
    """When the wait is over, what the name owned belongs to the run that is registered."""
    owner_table = judge(node('b', run=2), absent={('b', 'b1'): NOW - 15})
    assert owner_table.is_present('b')
    assert owner_table.members == {'b': member('b', run=2)}


def test_replaced_belongs_to_the_replacement() -> None:
    """The tokens of an owner that is declared over by its name's present run are that run's at once."""
    owner_table = judge(node('b', run=3, replaces=[1, 2]))
    assert owner_table.is_present('b')
    assert owner_table.members == {'b': member('b', run=3)}


def test_a_replacement_that_left_gives_away() -> None:
    """A replacement that left leaves the tokens of the replaced to be given away as well."""
    assert judge(node('b', run=2, replaces=[1], left=True)).status['b'] is OwnerStatus.GONE


def test_a_stranger_that_left_says_nothing() -> None:
    """That another run of the name left does not tell whether the owner still works."""
    assert judge(node('b', run=2, left=True)).is_waiting('b')


def test_who_comes_back_is_forgotten_as_absent() -> None:
    """An owner that is seen again and vanishes again is waited for anew."""
    absent = {('b', 'b1'): NOW - 10}
    judge(node('b'), absent=absent)
    assert judge(absent=absent).due_at == NOW + 15


def test_the_wait_is_for_the_run() -> None:
    """That one run has been absent for long does not shorten the wait for another."""
    absent = {('b', 'b1'): NOW - 10}
    assert judge(meant=member('b', run=2), absent=absent).due_at == NOW + 15


@pytest.mark.parametrize('name', [None, 'nobody'])
def test_nobody_is_neither(name: str | None) -> None:
    """No owner, or one never heard of, is neither present nor waited for."""
    owner_table = judge(node('b'))
    assert not owner_table.is_present(name)
    assert not owner_table.is_waiting(name)


def test_a_member_takes_its_timeout_from_its_record() -> None:
    """A present owner's timeout is kept from its record, for the day its record is gone."""
    assert judge(node('b', timeout_sec=40)).members == {'b': member('b', timeout_sec=40)}
