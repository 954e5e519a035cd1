"""The promises and rules of the protocol that each test of the suite guards, and that a failure costs.

Each class of tests has a row. A test that guards other promises than its class has a row of its own. The words are for
readers who have not read the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ['GUARDS', 'MEANING', 'guarded_by']

MEANING: Mapping[str, str] = {
    'P1': 'at most one process owns a task',
    'P2': 'a hand-over is short',
    'P3': 'the tokens of a crashed node are owned again',
    'P4': 'a store outage moves nothing',
    'P5': 'loads are balanced, and no more moves than must',
    'P6': 'a locked task stays where its lock says',
    'P7': 'the fence of a token only rises',
    'P8': 'a claim waits for nothing',
    'R1': 'the lease: only an acknowledged heartbeat lets a node go on',
    'R2': 'suspicion: a live node shows that it lives',
    'R3': 'hand-over: nobody takes a token that another may still hold',
    'R4': 'leadership: one leader for each epoch',
    'R5': 'the commit: all or nothing, and only from what still stands',
    'R6': 'one process for each node name',
    'R7': 'pins: a locked task is decided by its pin alone',
    'R8': 'a store that goes back in time is noticed',
    'R9': 'one spoilt record stops nothing else',
    'history': 'the record of begun and completed work is right',
    'use': 'names, sizes and namespaces work as documented',
}
"""Each promise in one line. ``history`` and ``use`` are no promises of the protocol, but users rely on them."""

GUARDS: Mapping[str, tuple[str, ...]] = {
    'AttemptTests': ('history',),
    'CallHistoryTests': ('P1', 'R5', 'R6'),
    'ClockTests': ('P6', 'history'),
    'CommitEffectTests': ('P1', 'P7', 'R5'),
    'CommitGuardTests': ('P1', 'R5'),
    'ConcurrencyTests': ('P1', 'R4', 'R5', 'R6'),
    'ConcurrentReadingTests': ('P1', 'R4', 'R5', 'R6'),
    'DeregisterTests': ('P2', 'R5'),
    'EndingTests': ('P1', 'R2', 'R6', 'R8'),
    'FailoverTests': ('P1', 'R8'),
    'ForkTests': ('P2', 'P4', 'R1'),
    'HandEditTests': ('P1', 'R5'),
    'HeartbeatTests': ('P1', 'R1', 'R2'),
    'InfoTests': ('use',),
    'IsolationTests': ('use', 'P1'),
    'LeadershipTests': ('P3', 'R4'),
    'KilledProcessTests': ('P1', 'R4', 'R5'),
    'ItemTests': ('P1', 'R7'),
    'LockTests': ('P6', 'R7'),
    'LongestTimeoutTests': ('P1', 'R2', 'R8'),
    'ComparisonTests': ('P1', 'R5'),
    'NameTests': ('use', 'R6'),
    'OpeningTests': ('use', 'P1'),
    'OutageTests': ('P4', 'R8'),
    'PositionTests': ('P1', 'R8'),
    'ProcessTests': ('P1', 'R4', 'R5'),
    'RaceTests': ('P1', 'R4', 'R5', 'R6'),
    'ReadingTests': ('P1', 'P7', 'R3'),
    'RefusalTests': ('P1', 'P4', 'R1', 'history'),
    'RegisterTests': ('P1', 'R4', 'R6'),
    'RemovalTests': ('P1', 'R5'),
    'RepetitionTests': ('P1', 'R5', 'history'),
    'SizeTests': ('use', 'P5'),
    'SnapshotTests': ('P1', 'R2', 'R5'),
    'TimelineTests': ('P1', 'R8'),
    'HistoryTests': ('history',),
    'PurgeTests': ('history',),
    'UnreadableTests': ('P3', 'P6', 'R9'),
    'WaitTests': ('P2',),
    'WeightTests': ('P5',),
    # tests that guard other promises than their class
    'test_a_pin_made_again_is_new': ('P6', 'P7', 'R7'),
    'test_the_row_of_a_pin_cannot_be_deleted': ('P1', 'P6', 'R7'),
    'test_a_bulk_call_holds_up_no_heartbeat': ('P2', 'P4', 'R1'),
    'test_a_fork_amid_calls_opens_a_handle_of_its_own': ('use', 'R8'),
    'test_a_process_stopped_in_the_middle_of_a_write': ('P1', 'R1', 'R5'),
    'test_a_refused_call_holds_up_no_other': ('P2', 'P4', 'R1'),
    'test_a_wall_clock_that_goes_back_lengthens_no_call': ('P2', 'P4', 'R1'),
    'test_a_wait_holds_up_no_other_call': ('P2', 'P4', 'R1'),
    'test_a_wait_without_a_change_lasts': ('use',),
    'test_a_process_that_closes_nothing_ends': ('use',),
    'test_acknowledged_writes_survive': ('P1', 'P4', 'R8'),
    'test_calls_leave_nothing_open': ('use',),
    'test_as_many_removals_as_declared': ('P1', 'R5', 'use'),
    'test_claims_of_a_gone_run_are_refused': ('P1', 'history'),
    'test_calls_wait_for_no_log': ('P2', 'P4', 'R1'),
    'test_close_releases_everything': ('use',),
    'test_deleted_locks_are_gone': ('P6', 'R7'),
    'test_leader_counts_the_commit': ('R2', 'R8'),
    'test_locks_revision_is_that_of_the_last_edit': ('P6', 'R7'),
    'test_many_calls_at_once': ('P2', 'P4', 'R1'),
    'test_one_call_made_by_several_threads': ('P4', 'history'),
    'test_other_settings_are_kept_while_a_node_is_joined': ('P1', 'R8'),
    'test_pins_are_written_and_removed': ('P6', 'R7'),
    'test_plan_of_the_old_timeline_is_refused': ('P1', 'P7', 'R8'),
    'test_rebalance_is_recorded_if_tokens_moved': ('history',),
    'test_rebalance_is_recorded_if_a_node_goes': ('history',),
    'test_revision_is_lifted': ('P1', 'R8'),
    'test_the_epoch_is_never_reused': ('P1', 'P7', 'R4'),
    'test_wait_outlives_a_crash': ('P2',),
    'test_writes_acknowledged_under_load_survive': ('P1', 'P4', 'R8', 'history'),
    'test_versions_are_written_as_given': ('P7',),
}
"""The keys of ``MEANING`` by the name of a test, or else of its class."""


def guarded_by(kind: str, test: str) -> tuple[str, ...]:
    """Return the keys of ``MEANING`` that a failure of this test costs.

    Raises:
        KeyError: Neither the test nor its class has a row.
    """
    return GUARDS[test] if test in GUARDS else GUARDS[kind]
