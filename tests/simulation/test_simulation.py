"""The protocol under a seeded adversary; and the adversary, put to the test with each rule taken away."""

from __future__ import annotations

import datetime as dt
from array import array
from collections.abc import Sequence

import pytest
from tests.simulation.broken_rules import BROKEN_ORDER, BROKEN_RULES

from jobsync._core.leader import admission
from jobsync._core.leader.pins import PinPlanner
from jobsync._core.planner.rebalance import PinRequest
from jobsync.backend import HistoryKind, Purged
from jobsync.backends.memory import MemoryBackend
from jobsync.testing.simulate import main
from jobsync.testing.simulation import WorldConfig, run
from jobsync.testing.simulation.world import ITEMS

ORDINARY = WorldConfig(drills=False)
SHOWN_BY = {
    'r1_lease_never_ends': 0,
    'r1_lease_from_the_answer': 52,
    'r3_no_acknowledgement': 6,
    'r3_holding_ignored': 5,
    'r3_claims_until_it_has_left': 581,
    'r3_keeps_what_it_gives_up': 0,
    'r5_absent_is_left': 3,
    'r5_lost_rows_are_free': 14,
    'r5_name_owns': 4,
    'r6_takes_names_at_once': 9,
    'r7_pinned_tasks_by_hash': 0,
    'r7_first_owner': 24,
    'r7_unpin_at_once': 40,
    'p7_a_new_run_keeps_the_fence': 3,
    'p7_a_removed_pin_leaves_the_fence': 54,
    'announced_tokens_go_at_once': 9,
}
"""For each rule a seed that shows the lack of it today: where to begin, so that not all before it are tried."""


@pytest.mark.parametrize(
    'first',
    [
        0,
        pytest.param(2, marks=pytest.mark.slow),
        *(pytest.param(first, marks=pytest.mark.full) for first in range(4, 24, 2)),
    ],
)
def test_every_promise_holds(first: int) -> None:
    """P1, P7 and the order of announcements at every step of a storm, and P2 to P6 in the drills after it."""
    for seed in range(first, first + 2):
        outcome = run(seed)
        assert outcome.is_good, '\n'.join([*outcome.violations, *outcome.broken, *outcome.unsettled, *outcome.history[-40:]])


@pytest.mark.slow
def test_every_promise_holds_while_old_records_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that keeps the history for a minute breaks no promise, and deletes rebalances in the midst of the storm."""
    deleted, purge = list[int](), MemoryBackend.purge

    def counted(self: MemoryBackend, kind: HistoryKind, before: dt.datetime, limit: int, after: str = '') -> Purged:
        portion = purge(self, kind, before, limit, after)
        deleted.append(portion.deleted)
        return portion

    monkeypatch.setattr(MemoryBackend, 'purge', counted)
    outcome = run(1, WorldConfig(retention_days=60 / 86_400))
    assert outcome.is_good, outcome.history[-40:]
    assert sum(deleted) > 20
    assert len(deleted) > 50


@pytest.mark.slow
def test_a_leader_goes_on_until_an_older_candidate_takes_over() -> None:
    """A leader that is not the oldest candidate any more, which that candidate does not know, leads on (seed 1211)."""
    assert run(1211).is_good


@pytest.mark.slow
@pytest.mark.parametrize('config', [ORDINARY, pytest.param(WorldConfig(), marks=pytest.mark.full)], ids=['storm', 'drills too'])
def test_a_seed_replays_exactly(config: WorldConfig) -> None:
    """A seed determines everything that happens."""
    assert run(5, config) == run(5, config)


@pytest.mark.parametrize('rule', BROKEN_RULES)
def test_a_missing_rule_is_noticed(rule: str) -> None:
    """With any one rule taken away, some seed shows two owners, where with the rule in place it shows none."""
    first = SHOWN_BY.get(rule, 0)
    for seed in range(first, first + 400):
        with BROKEN_RULES[rule]():
            violated = bool(run(seed, ORDINARY).violations)
        if violated and not run(seed, ORDINARY).violations:
            return
    pytest.fail(f'no seed noticed that {rule}')


@pytest.mark.parametrize('rule', BROKEN_ORDER)
def test_a_fence_or_an_announcement_that_breaks_is_noticed(rule: str) -> None:
    """With what keeps fences rising, or announced tokens in place, taken away, some seed shows it."""
    first = SHOWN_BY.get(rule, 0)
    for seed in range(first, first + 200):
        with BROKEN_ORDER[rule]():
            broken = bool(run(seed, ORDINARY).broken)
        if broken:
            assert not run(seed, ORDINARY).broken
            return
    pytest.fail(f'no seed noticed that {rule}')


def test_items_that_are_not_shared_out_by_themselves_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With items balanced among all tokens, some seed shows a group of which one node has too many (P5), and nothing else."""
    requests = PinPlanner.requests

    def among_all(self: PinPlanner, place: array[int], names: Sequence[str]) -> list[PinRequest]:
        return [request._replace(group='') for request in requests(self, place, names)]

    monkeypatch.setattr(PinPlanner, 'requests', among_all)
    findings = (set(run(seed, ORDINARY).unsettled) for seed in range(24, 24 + 20 * ITEMS, ITEMS))
    found = next(filter(None, findings), set())
    assert found
    assert all(finding.startswith('P5: of group ') for finding in found), found


@pytest.mark.slow
def test_a_replacement_that_moves_everything_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drill that replaces every node complains if newcomers get their share before anybody goes."""
    for seed in range(17, 117):
        with monkeypatch.context() as patch:
            patch.setattr(admission, 'ROLL_SEC', 0.0)  # so nothing is taken for a replacement
            noticed = any('replace: ' in text for text in run(seed).unsettled)
        if noticed:
            assert run(seed).is_good
            return
    pytest.fail('no seed noticed')


@pytest.mark.slow
def test_the_command_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m jobsync.testing.simulate`` ends with a line of figures and status 0 when everything held."""
    assert main(['--seeds', '0:2', '--processes', '1', '--nodes', '2', '--tokens', '8']) == 0
    assert capsys.readouterr().out.startswith(
        '2 seeds, 0 with two owners, 0 with a fence or an announcement broken, 0 not settled'
    )


def test_the_command_explains_what_broke(capsys: pytest.CaptureFixture[str]) -> None:
    """For a seed that breaks a promise the command says which, how to see it again, and what led to it."""
    seed = SHOWN_BY['r7_pinned_tasks_by_hash']
    with BROKEN_RULES['r7_pinned_tasks_by_hash']():
        assert main(['--seeds', str(seed), '--processes', '1']) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f'seed {seed} breaks P1')
    assert lines[2].startswith(f'  python -m jobsync.testing.simulate --seeds {seed} --nodes 6')
    assert lines[3].startswith('  P1 at ')
    assert 'P1 broken: ' in lines[-2]
    assert 'P1 broken in 1' in lines[-1]


def test_the_command_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    """A range of seeds that is none is refused by name."""
    with pytest.raises(SystemExit):
        main(['--seeds', 'many'])
    assert "'many' is neither a seed nor FIRST:END" in capsys.readouterr().err
