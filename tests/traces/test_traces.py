"""What a simulated cluster does is what the specification allows, and the specification allows nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from tests.support.patching import patched
from tests.traces.breaks import BREAKS
from tests.traces.mutations import MUTATIONS, mutated
from tests.traces.simulated import simulated
from tests.traces.specification import ACTIONS, Specification, check
from tests.traces.trial import refusal, tried

from jobsync._core.leader.inputs import LeaderState

MODULE = Path(__file__).parents[2] / 'spec/protocol.tla'
TRACES = 16
SEARCHED = 120
"""Seeds among which one must show a break, or have a place for a mutation."""
ABSENT = 986
"""A seed that shows the last break today: where to begin."""


@pytest.mark.slow
def test_traces_are_accepted_and_mutated_ones_are_refused() -> None:
    """Every trace is one of the specification, none is after a mutation, and every mutation is tried."""
    untried = set(MUTATIONS)
    for seed in range(TRACES):
        trial = tried(seed)
        assert trial.is_right, trial
        untried.discard(trial.mutation)
    for name in sorted(untried):
        tries = (MUTATIONS[name](simulated(seed), Random(seed)) for seed in range(SEARCHED))
        assert refusal(next(changed for changed in tries if changed is not None)), name


@pytest.mark.parametrize('broken', BREAKS)
def test_a_break_is_refused(broken: str) -> None:
    """Of code without a rule some trace is none of the specification."""
    with BREAKS[broken]():
        assert any(refusal(simulated(seed)) for seed in range(SEARCHED))


@pytest.mark.slow
def test_an_absence_that_outlasts_a_return_is_refused() -> None:
    """A leader that counts the absence of a row from before the row came back does not wait for its last owner."""
    with patched(LeaderState, 'read_rows', lambda *_: None):
        seeds = range(ABSENT, ABSENT + 4 * SEARCHED)
        assert any('has no row, and is not waited for' in refusal(simulated(seed)) for seed in seeds)


def test_the_checker_has_the_actions_of_the_module() -> None:
    """Each kind of event is an action of the module, or says why not, and each action of the module has a kind of event."""
    next_actions = MODULE.read_text().split('\nNext ==')[1].split('\nSpec ==')[0]
    actions = set(re.findall(r'\b([A-Z]\w+)(?:\(|\b(?= \\/|\n))', next_actions)) - {'Runs', 'Names'}
    handled = {name.removeprefix('do_') for name in vars(Specification) if name.startswith('do_')}
    assert handled == ACTIONS.keys()
    assert {action for names in ACTIONS.values() for action in names} == actions


def test_a_trace_replays() -> None:
    """A seed has one trace, and one mutated trace."""
    assert simulated(3) == simulated(3)
    assert mutated(simulated(3), 3) == mutated(simulated(3), 3)
    assert check(simulated(3)) == len(simulated(3))
