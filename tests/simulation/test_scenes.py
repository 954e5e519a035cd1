"""What befalls a small cluster in each scene, with every rule in place and with the one rule taken away that it is about."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from tests.simulation import broken_rules, scenes

SCENES: dict[Callable[[], AbstractContextManager[None]], Callable[[], list[str]]] = {
    broken_rules.r1_a_lease_begins_again_with_what_was_owned: scenes.a_row_is_put_back,
    broken_rules.r2_own_timeout_for_all: scenes.a_patient_node_is_cut_off,
    broken_rules.r2_longest_of_the_records: scenes.a_patient_node_is_deleted,
    broken_rules.r2_longest_forgotten_by_a_renewal: scenes.a_patient_node_outlives_a_rollback,
    broken_rules.r2_silence_proves_death: scenes.the_store_is_away,
    broken_rules.r2_failures_are_no_blindness: scenes.the_store_refuses_writes,
    broken_rules.r2_by_the_clock_of_the_store: scenes.the_clock_of_the_store_jumps,
    broken_rules.r4_the_leader_is_always_a_candidate: scenes.the_work_of_the_leader_hangs,
    broken_rules.r4_no_candidates_are_not_passed_over: scenes.the_work_of_the_leader_hangs,
    broken_rules.r4_stuck_nodes_are_given_tokens: scenes.the_work_of_the_leader_hangs,
    broken_rules.r5_absence_outlasts_a_return: scenes.a_row_is_put_back_for_a_moment,
    broken_rules.r5_absent_members_hold_nothing: scenes.the_rows_of_tokens_go_before_that_of_their_owner,
    broken_rules.r5_whole_revision_compared: scenes.locks_are_edited_without_a_pause,
    broken_rules.r6_settings_replaced_unwatched: scenes.other_settings_while_all_are_cut_off,
    broken_rules.r8_first_commit_at_once: scenes.a_patient_node_outlives_a_rollback,
    broken_rules.r8_signs_ignored: scenes.the_store_goes_back,
    broken_rules.r8_position_ignored: scenes.the_store_goes_back_to_a_lower_position,
    broken_rules.r9_refusals_are_fatal: scenes.the_store_refuses_everybody,
    broken_rules.r9_removals_not_split: scenes.more_die_than_one_commit_removes,
    broken_rules.r9_unreadable_records_block: scenes.a_record_is_spoilt,
}
"""For each rule the scene in which the lack of it shows."""


OTHERS = (
    scenes.the_commits_of_the_leader_are_refused,
    scenes.other_settings_after_a_crash,
    scenes.a_lock_is_given_to_another_task,
    scenes.the_only_node_that_may_own_tokens_is_stuck,
    scenes.five_of_fifty_die,
    scenes.five_of_fifty_die_with_their_leader,
    scenes.the_five_oldest_of_fifty_die,
)


@pytest.mark.parametrize('scene', [*dict.fromkeys(SCENES.values()), *OTHERS])
def test_nothing_breaks(scene: Callable[[], list[str]]) -> None:
    """Every promise holds in the scene."""
    assert scene() == []


@pytest.mark.parametrize('rule', SCENES)
def test_a_missing_rule_is_noticed(rule: Callable[[], AbstractContextManager[None]]) -> None:
    """With the rule taken away, something breaks in its scene."""
    with rule():
        assert SCENES[rule]() != []
