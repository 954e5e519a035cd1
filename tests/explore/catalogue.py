"""The worlds that are explored, and for each broken rule the world in which the lack of it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from tests.explore.worlds import ProcessSpec, World, cleared, declared, locked, locked_to
from tests.simulation import broken_rules as rules
from tests.traces.breaks import no_commit_guard

__all__ = ['LARGE', 'RULES', 'UNREACHED', 'WORLDS', 'Rule']

A, B, B_AGAIN = ProcessSpec('a'), ProcessSpec('b'), ProcessSpec('b', is_there=False)
LATER_C = ProcessSpec('c', is_there=False)
PATIENT = ProcessSpec('b', timeout=7.0)
C = ProcessSpec('c')
IDLE = ProcessSpec('a', weight=0.0)
_COMMIT = ('commit',)

_SMALL = (
    World('pause', 'One of two nodes is paused.', (A, B), {'pause': 1}, 1),
    World('late', 'One call or reply is late.', (A, B), {'late': 1}, 1),
    World('start', 'A process starts under the name of one that lives.', (A, B, B_AGAIN), {'start': 1}, 1),
    World('usurp', 'The row of a node is deleted manually, and a process starts under its name.', (A, B, B_AGAIN),
          {'delete': 1, 'start': 1}, 2),
    World('delete', 'The row of a node is deleted manually.', (A, B), {'delete': 1}, 1),
    World('put back', 'The row of a paused node was deleted manually, and is put back.', (A, B),
          {'pause': 1, 'delete': 1, 'put back': 1}, 3, beginning=('pause b', 'delete b')),
    World('put back amid a commit', 'The row of a paused node was deleted and is put back, and a commit is late.', (A, B),
          {'pause': 1, 'delete': 1, 'put back': 1, 'late': 1}, 4, late=_COMMIT, beginning=('pause b', 'delete b')),
    World('put back for a moment', 'A row was deleted and put back, which both nodes have read, and is deleted again.', (A, B),
          {'pause': 2, 'delete': 2, 'put back': 1}, 5,
          beginning=('pause a', 'delete a', 'tick', 'tick', 'put back a', 'resume a', 'call a Heartbeat', 'call b TakeSnapshot')),
    World('rows, then a node', 'The rows of all tokens were deleted, and then that of a node that has not read it.',
          (A, B), {'fail': 1, 'delete rows': 1, 'pause': 1, 'delete': 1}, 4, failing=('work',),
          beginning=('fail b work', 'delete rows', 'tick', 'tick', 'tick')),
    World('rows', 'The rows of all tokens are deleted manually.', (A, B), {'delete rows': 1, 'pause': 1}, 2),
    World('patience', 'A node with a longer timeout is paused.', (A, PATIENT), {'pause': 1}, 1),
    World('patience deleted', 'A node with a longer timeout is paused, and its row and those of the tokens are deleted.',
          (A, PATIENT), {'pause': 1, 'delete all': 1}, 2),
    World('patience rolled back', 'A node with a longer timeout is paused, and the store goes back.', (A, PATIENT),
          {'pause': 1, 'roll back': 1}, 2, durable=False, beginning=('pause b', 'roll back')),
    World('drain', 'One of two nodes is drained.', (A, B), {'weigh': 1}, 1),
    World('leave', 'One of two nodes leaves.', (A, B), {'leave': 1}, 1),
    World('busy drain', 'One of two nodes is drained while it works on a task.', (A, B), {'weigh': 1, 'begin': 1}, 2,
          tasks=('x', 'y')),
    World('busy eviction', 'A node is drained, and evicted while it works on a task: its row is removed.', (A, B),
          {'weigh': 1, 'begin': 1, 'delete': 1}, 3, tasks=('x', 'y'),
          beginning=('begin b x', 'weigh b', 'call a Commit', 'delete b')),
    World('late commit', 'A node was drained and is back, and a commit that was given up is still under way.', (A, B),
          {'weigh': 2, 'late': 1}, 3, late=_COMMIT,
          beginning=('weigh b', 'call a Commit', 'give up a Commit', 'call a Commit', 'weigh b', *['call a Commit'] * 2)),
    World('late eviction', 'A node is paused, and the commit that evicts it is late.', (A, B), {'pause': 1, 'late': 1}, 2,
          late=_COMMIT),
    World('lock', 'Tasks are locked to the other node.', (A, B), {'edit': 2}, 2, edits=(locked('x', 'a'), locked('y', 'b'))),
    World('unlock', 'The locks of two tasks are cleared.', (A, B), {'edit': 2}, 2,
          before=(locked('x', 'a'), locked('y', 'b')), edits=(cleared('x'), cleared('y'))),
    World('gather', 'A leader gathers the acknowledgements of three owners.', (A, B, C), {'edit': 1, 'pause': 1}, 2,
          before=(locked('x', 'a'),), edits=(locked_to('b', 'x', 'y'),), gathers=True, beginning=('edit',)),
    World('request again', 'Two nodes are to hand over a task each, and one does not; the other keeps its own for a while.',
          (A, B, C), {'edit': 3, 'pause': 1}, 4, before=(locked('x', 'c'), locked('y', 'b')),
          edits=(locked_to('a', 'x', 'y'), locked('y', 'b'), locked('y', 'a')),
          beginning=('pause c', *['edit', 'call a Commit'] * 2, 'call b Heartbeat', 'call b ReadAssignment', 'edit')),
    World('request more', 'A node is to hand over a task and then another, and the answer to a commit is lost.', (A, B),
          {'edit': 2, 'late': 1}, 3, before=(locked_to('b', 'x', 'y'),), edits=(locked('x', 'a'), locked('y', 'a')), late=_COMMIT,
          beginning=('edit',)),
    World('unlock a request', "A task's lock is cleared while its owner is to hand over the hash token.", (IDLE, B),
          {'weigh': 1, 'edit': 1}, 2, before=(locked('x', 'b'),), edits=(cleared('x'),), beginning=('weigh a',)),
    World('drain rolled back', 'A node was drained, and the store goes back to before that.', (A, B),
          {'weigh': 1, 'roll back': 1}, 2, durable=False, beginning=('weigh b', 'call a Commit', 'call a Commit')),
    World('pause rolled back', 'A node is paused, and the store goes back.', (A, B), {'pause': 1, 'roll back': 1}, 2,
          durable=False),
    World('clock', "The store's clock jumps by a day.", (A, B), {'jump': 1}, 1),
)  # fmt: skip

_LARGE = (
    World('faults', 'Two nodes: calls and replies lost and late, pauses, crashes, failing lanes, slow clocks.', (A, B),
          {'crash': 1, 'pause': 1, 'lose': 2, 'late': 2, 'fail': 1, 'drift': 1}, 3, states=5_600_000),
    World('locks', 'Two nodes, a lock that is made, changed and cleared, an item, and a task that is worked on.', (A, B),
          {'edit': 4, 'begin': 1, 'late': 1, 'pause': 1, 'crash': 1}, 5,
          edits=(locked('x', 'b'), declared('g', 'y'), locked('x', 'a'), cleared('x')), tasks=('x',), states=1_600_000),
    World('three', 'Three nodes, one of which leaves, is drained, paused, or dies.', (A, B, C),
          {'crash': 1, 'pause': 1, 'leave': 1, 'weigh': 1, 'late': 1}, 2, states=1_400_000),
    World('names', 'Two nodes and a process that starts under the name of one; rows deleted manually.', (A, B, B_AGAIN),
          {'crash': 1, 'pause': 1, 'late': 1, 'start': 1, 'delete': 1, 'delete rows': 1, 'leave': 1}, 3, states=400_000),
    World('rollbacks', 'Two nodes and a third that comes; the store goes back under another identity.', (A, B, LATER_C),
          {'roll back': 1, 'start': 1, 'weigh': 1, 'pause': 1, 'late': 1, 'crash': 1}, 4, durable=False, states=400_000),
    World('positions', 'As in rollbacks, but only the position of the store shows that it went back.', (A, B, LATER_C),
          {'roll back': 1, 'start': 1, 'weigh': 1, 'pause': 1, 'late': 1, 'crash': 1}, 4, durable=False, position=True,
          states=200_000),
    World('gathering', 'A leader gathers the acknowledgements of three owners: paused, late, leaving, dying.', (A, B, C),
          {'edit': 1, 'crash': 1, 'pause': 2, 'leave': 1, 'late': 1, 'begin': 1}, 4, before=(locked('x', 'a'),),
          edits=(locked_to('b', 'x', 'y'),), tasks=('x',), gathers=True, beginning=('edit',), states=500_000),
)  # fmt: skip
WORLDS: Mapping[str, World] = {world.name: world for world in (*_SMALL, *_LARGE)}
LARGE = tuple(world.name for world in _LARGE)

Rule = Callable[[], AbstractContextManager[None]]
RULES: Mapping[Rule, str] = {
    rules.r1_a_lease_begins_again_with_what_was_owned: 'put back',
    rules.r1_lease_never_ends: 'pause',
    rules.r1_lease_from_the_answer: 'late',
    rules.r2_own_timeout_for_all: 'patience',
    rules.r2_longest_of_the_records: 'patience deleted',
    rules.r2_longest_forgotten_by_a_renewal: 'patience rolled back',
    rules.r2_by_the_clock_of_the_store: 'clock',
    rules.r3_no_acknowledgement: 'drain',
    rules.r3_holding_ignored: 'busy drain',
    rules.r3_a_new_run_holds_nothing: 'busy eviction',
    rules.r3_claims_until_it_has_left: 'leave',
    rules.r3_keeps_what_it_gives_up: 'drain',
    rules.r3_acknowledgements_outlive_their_version: 'gather',
    rules.r3_each_request_is_as_old_as_the_first: 'request again',
    rules.r3_a_version_of_unknown_origin_goes_on: 'request more',
    rules.r3_requests_outlive_a_pin: 'unlock a request',
    rules.r5_version_not_compared: 'late commit',
    rules.r5_eviction_not_compared: 'late eviction',
    no_commit_guard: 'late eviction',
    rules.r5_absent_not_compared: 'put back amid a commit',
    rules.r5_absent_is_left: 'delete',
    rules.r5_absence_outlasts_a_return: 'put back for a moment',
    rules.r5_absent_members_hold_nothing: 'rows, then a node',
    rules.r5_lost_rows_are_free: 'rows',
    rules.r5_name_owns: 'usurp',
    rules.r6_takes_names_at_once: 'start',
    rules.r7_pinned_tasks_by_hash: 'lock',
    rules.r7_first_owner: 'lock',
    rules.r7_unpin_at_once: 'unlock',
    rules.r8_signs_ignored: 'drain rolled back',
    rules.r8_first_commit_at_once: 'pause rolled back',
}
"""For each rule the smallest world in which the lack of it leads to two owners."""

_NOT_P1 = 'It moves tokens, or leaves them unowned, and never gives one two owners.'
_ONE_POOL = 'Every process of a world has the same settings.'
UNREACHED: Mapping[Rule, str] = {
    rules.r2_own_heartbeats_do_not_count: _NOT_P1,
    rules.r2_each_failed_call_is_blindness: _NOT_P1,
    rules.r2_silence_proves_death: _NOT_P1,
    rules.r2_blindness_is_silence: _NOT_P1,
    rules.r3_gathers_until_all_have_acknowledged: _NOT_P1,
    rules.r3_only_the_version_at_hand_counts: _NOT_P1,
    rules.r4_the_leader_is_always_a_candidate: _NOT_P1,
    rules.r4_a_fresh_reading_is_read_again: _NOT_P1,
    rules.r4_no_candidates_are_not_passed_over: _NOT_P1,
    rules.r4_stuck_nodes_are_given_tokens: _NOT_P1,
    rules.r5_whole_revision_compared: _NOT_P1,
    rules.r6_settings_replaced_unwatched: _ONE_POOL,
    rules.r8_position_ignored: 'Edits must raise the revision past what a node has read: too many states lie before that.',
    rules.r9_refusals_are_fatal: _NOT_P1,
    rules.r9_unreadable_records_block: _NOT_P1,
    rules.r9_removals_not_split: _NOT_P1,
    rules.p7_a_new_run_keeps_the_fence: 'Fences (P7) are no part of an explored state.',
    rules.p7_a_removed_pin_leaves_the_fence: 'Fences (P7) are no part of an explored state.',
    rules.announced_tokens_go_at_once: 'No process of a world has an `on_revoke`.',
}
"""For each other rule why no world shows the lack of it. Scenarios and storms do (``tests/simulation``)."""
