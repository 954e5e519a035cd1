"""What befalls a small cluster in each scenario, with every rule in place and with the one rule taken away that it is about."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from tests.simulation import broken_rules, gathering, scenarios

SCENARIOS: dict[Callable[[], AbstractContextManager[None]], Callable[[], list[str]]] = {
    broken_rules.r1_a_lease_begins_again_with_what_was_owned: scenarios.a_row_is_put_back,
    broken_rules.r2_own_timeout_for_all: scenarios.a_patient_node_is_cut_off,
    broken_rules.r2_longest_of_the_records: scenarios.a_patient_node_is_deleted,
    broken_rules.r2_longest_forgotten_by_a_renewal: scenarios.a_patient_node_outlives_a_rollback,
    broken_rules.r2_silence_proves_death: scenarios.the_store_is_away,
    broken_rules.r2_blindness_is_silence: scenarios.the_store_is_away,
    broken_rules.r2_own_heartbeats_do_not_count: scenarios.the_store_refuses_writes,
    broken_rules.r2_each_failed_call_is_blindness: scenarios.calls_of_the_leader_fail_now_and_then,
    broken_rules.r2_by_the_clock_of_the_store: scenarios.the_clock_of_the_store_jumps,
    broken_rules.r3_gathers_until_all_have_acknowledged: gathering.one_of_several_is_silent,
    broken_rules.r3_only_the_version_at_hand_counts: scenarios.an_owner_is_far_from_the_store,
    broken_rules.r4_the_leader_is_always_a_candidate: scenarios.the_work_of_the_leader_hangs,
    broken_rules.r4_a_fresh_reading_is_read_again: scenarios.the_leader_of_a_slow_store_dies,
    broken_rules.r4_no_candidates_are_not_passed_over: scenarios.the_work_of_the_leader_hangs,
    broken_rules.r4_stuck_nodes_are_given_tokens: scenarios.the_work_of_the_leader_hangs,
    broken_rules.r5_absence_outlasts_a_return: scenarios.a_row_is_put_back_for_a_moment,
    broken_rules.r5_absent_members_hold_nothing: scenarios.the_rows_of_tokens_go_before_that_of_their_owner,
    broken_rules.r5_whole_revision_compared: scenarios.locks_are_edited_without_a_pause,
    broken_rules.r6_settings_replaced_unwatched: scenarios.other_settings_while_all_are_cut_off,
    broken_rules.r8_first_commit_at_once: scenarios.a_patient_node_outlives_a_rollback,
    broken_rules.r8_signs_ignored: scenarios.the_store_goes_back,
    broken_rules.r8_position_ignored: scenarios.the_store_goes_back_to_a_lower_position,
    broken_rules.r9_refusals_are_fatal: scenarios.the_store_refuses_everybody,
    broken_rules.r9_removals_not_split: scenarios.more_die_than_one_commit_removes,
    broken_rules.r9_unreadable_records_block: scenarios.a_record_is_spoilt,
    broken_rules.known_deaths_without_proof: scenarios.one_is_stopped_and_one_is_killed,
    broken_rules.known_deaths_of_names: scenarios.one_is_killed_and_started_again,
    broken_rules.hints_leave_out_what_nodes_gain: scenarios.nodes_far_behind_in_line_gain_and_die,
}
"""For each rule the scenario in which the lack of it shows."""


OTHERS = (
    scenarios.the_commits_of_the_leader_are_refused,
    scenarios.other_settings_after_a_crash,
    scenarios.a_lock_is_given_to_another_task,
    scenarios.the_only_node_that_may_own_tokens_is_stuck,
    scenarios.five_of_fifty_die,
    scenarios.five_of_fifty_die_with_their_leader,
    scenarios.the_five_oldest_of_fifty_die,
    scenarios.all_of_a_host_are_killed,
    scenarios.one_is_killed_on_a_host_of_its_own,
    gathering.the_leader_dies_while_it_gathers,
    gathering.an_owner_leaves_while_the_leader_gathers,
)


@pytest.mark.parametrize('scenario', [*dict.fromkeys(SCENARIOS.values()), *OTHERS])
def test_nothing_breaks(scenario: Callable[[], list[str]]) -> None:
    """Every promise holds in the scenario."""
    assert scenario() == []


@pytest.mark.parametrize('rule', SCENARIOS)
def test_a_missing_rule_is_noticed(rule: Callable[[], AbstractContextManager[None]]) -> None:
    """With the rule taken away, something breaks in its scenario."""
    with rule():
        assert SCENARIOS[rule]() != []


def test_a_name_left_out_of_hints_costs_heartbeat_intervals() -> None:
    """A node that is not named and should be is late by one interval for each step of a hand-over, of which there are two."""
    with broken_rules.hints_leave_out_what_nodes_gain():
        assert scenarios.nodes_far_behind_in_line_gain_and_die(step_sec=2 * 1.1 * scenarios.SHORT[0]) == []
