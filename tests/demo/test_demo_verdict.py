"""The demo's verdict, on logs written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from jobsync_demo.files import Digest
from jobsync_demo.log import Sighting, Work, WorkerLog, summarise
from jobsync_demo.verdict import Verdict, judge, longest_gap, owned_at_once, widest_reading, worked_at_once

RIGHT = Digest(lines=1, words=2, sha256='abc')
OTHER = Digest(lines=1, words=3, sha256='abd')


def did(node: str, *works: tuple[str, float, float | None], result: Digest = RIGHT) -> WorkerLog:
    return WorkerLog(
        node,
        works=tuple(Work(node, file, begin, end, result if end is not None else None) for file, begin, end in works),
    )


def owned(node: str, *sightings: tuple[set[int], float, float]) -> WorkerLog:
    return WorkerLog(node, sightings=tuple(Sighting(node, frozenset(s), first, last) for s, first, last in sightings))


def verdict_on(*logs: WorkerLog, expected: Mapping[str, Digest], deaths: Mapping[str, float] | None = None) -> Verdict:
    return judge(expected, logs, deaths=deaths or {}, until=100.0)


class TestWorkedAtOnce:
    """Files that two processes worked on at one instant."""

    def test_work_one_after_the_other_is_no_clash(self) -> None:
        """Two processes may have one file, as long as the times do not meet."""
        logs = [did('a', ('f', 1.0, 2.0)), did('b', ('f', 2.0, 3.0))]
        assert worked_at_once(logs, {}) == ()

    def test_different_files_do_not_clash(self) -> None:
        """Working at the same time on different files is what workers are for."""
        assert worked_at_once([did('a', ('f', 1.0, 3.0)), did('b', ('g', 1.0, 3.0))], {}) == ()

    def test_an_overlap_is_found(self) -> None:
        """An overlap is reported with both nodes and its exact time, whichever log comes first."""
        logs = [did('b', ('f', 2.5, 4.0)), did('a', ('f', 1.0, 3.0))]
        (clash,) = worked_at_once(logs, {})
        assert (clash.thing, clash.nodes, clash.begin, clash.end) == ('f', ('a', 'b'), 2.5, 3.0)

    def test_a_long_span_hides_behind_no_short_one(self) -> None:
        """A span that began long before and is not over yet is compared too."""
        logs = [did('a', ('f', 0.0, 10.0)), did('b', ('f', 1.0, 2.0)), did('c', ('f', 5.0, 6.0))]
        assert {clash.nodes for clash in worked_at_once(logs, {})} == {('a', 'b'), ('a', 'c')}

    def test_three_at_once_are_three_pairs(self) -> None:
        """Every pair that overlaps is reported."""
        logs = [did(node, ('f', 1.0, 2.0)) for node in 'abc']
        assert len(worked_at_once(logs, {})) == 3

    def test_a_process_does_not_clash_with_itself(self) -> None:
        """One process may come back to a file."""
        assert worked_at_once([did('a', ('f', 1.0, 3.0), ('f', 2.0, 4.0))], {}) == ()

    def test_a_killed_worker_has_its_file_until_its_death(self) -> None:
        """An unfinished file counts up to the kill, and not beyond."""
        dead = did('a', ('f', 1.0, None))
        assert worked_at_once([dead, did('b', ('f', 4.9, 6.0))], {'a': 5.0})
        assert not worked_at_once([dead, did('b', ('f', 5.0, 6.0))], {'a': 5.0})


class TestOwnedAtOnce:
    """Tokens that two processes owned at one instant."""

    def test_a_shared_token_is_found(self) -> None:
        """A token in two sets at one instant is reported, and only that token."""
        logs = [owned('a', ({1, 2}, 0.0, 2.0)), owned('b', ({2, 3}, 1.0, 3.0))]
        (clash,) = owned_at_once(logs)
        assert (clash.thing, clash.nodes, clash.begin, clash.end) == ('token 2', ('a', 'b'), 1.0, 2.0)

    def test_a_hand_over_is_no_clash(self) -> None:
        """A token seen at one process until 2 and at another from 2 on is not shared."""
        assert owned_at_once([owned('a', ({1}, 0.0, 2.0)), owned('b', ({1}, 2.0, 3.0))]) == ()

    def test_a_single_reading_proves_no_duration(self) -> None:
        """A set that was read only once was there at an unknown instant: it accuses nobody."""
        assert owned_at_once([owned('a', ({1}, 0.0, 9.0)), owned('b', ({1}, 5.1, 5.0))]) == ()


class TestLongestGap:
    """The longest time a token had no owner."""

    def test_the_gap_between_two_owners(self) -> None:
        """The time between the last sight of a token at one process and the first at another."""
        gap = longest_gap([owned('a', ({1, 2}, 0.0, 2.0)), owned('b', ({1}, 2.5, 9.0), ({1, 2}, 5.0, 9.0))], until=9.0)
        assert gap is not None
        assert (gap.token, gap.seconds, gap.before, gap.after) == (2, 3.0, 'a', 'b')

    def test_before_its_first_owner_a_token_has_no_gap(self) -> None:
        """The measurement of a token begins when it is first owned."""
        gap = longest_gap([owned('a', ({1}, 7.0, 9.0))], until=9.0)
        assert gap is not None
        assert gap.seconds == 0.0

    def test_a_token_that_stays_unowned(self) -> None:
        """A token without an owner at the end counts up to the end."""
        gap = longest_gap([owned('a', ({1}, 0.0, 2.0), (set(), 2.0, 9.0))], until=9.0)
        assert gap is not None
        assert (gap.seconds, gap.after) == (7.0, '')

    def test_what_comes_after_the_end_does_not_count(self) -> None:
        """The workers' leaving is not part of the measurement."""
        gap = longest_gap([owned('a', ({1}, 0.0, 9.5), (set(), 9.6, 20.0))], until=9.0)
        assert gap is not None
        assert gap.seconds == 0.0

    def test_another_owner_at_the_same_time_closes_no_gap_early(self) -> None:
        """What counts is the last sight of any owner, not of the one that came last."""
        gap = longest_gap([owned('a', ({1}, 0.0, 6.0)), owned('b', ({1}, 1.0, 2.0)), owned('c', ({1}, 7.0, 9.0))], until=9.0)
        assert gap is not None
        assert (gap.seconds, gap.before) == (1.0, 'a')

    def test_a_long_time_without_a_reading_counts(self) -> None:
        """Nobody can tell that a token was owned while nobody looked, so that time is part of the bound."""
        sighting = Sighting('a', frozenset({1}), first=0.0, last=9.0, widest=4.0)
        logs = [WorkerLog('a', sightings=(sighting,))]
        gap = longest_gap(logs, until=9.0)
        assert gap is not None
        assert gap.seconds == 4.0
        assert widest_reading(logs) == 4.0

    def test_no_token_no_gap(self) -> None:
        """Where nobody owned anything there is nothing to measure."""
        assert longest_gap([owned('a', (set(), 0.0, 9.0))], until=9.0) is None


class TestJudge:
    """What passes and what fails."""

    def test_all_done_once(self) -> None:
        """Every file done once and rightly is the one way to pass."""
        verdict = verdict_on(did('a', ('f', 1.0, 2.0)), did('b', ('g', 1.0, 2.0)), expected={'f': RIGHT, 'g': RIGHT})
        assert verdict.ok
        assert (verdict.files, verdict.done, verdict.done_twice, verdict.missed) == (2, 2, (), ())
        assert [(share.node, share.files) for share in verdict.shares] == [('a', 1), ('b', 1)]

    def test_a_missed_file_fails(self) -> None:
        """A file that nobody finished is named, begun or not."""
        verdict = verdict_on(did('a', ('f', 1.0, None)), expected={'f': RIGHT, 'g': RIGHT})
        assert not verdict.ok
        assert verdict.missed == ('f', 'g')
        assert verdict.done == 0

    def test_a_wrong_result_fails(self) -> None:
        """A result other than the one computed afterwards is not a file done."""
        verdict = verdict_on(did('a', ('f', 1.0, 2.0), result=OTHER), expected={'f': RIGHT})
        assert not verdict.ok
        assert (verdict.done, verdict.wrong) == (0, ('f',))

    def test_done_twice_is_told_and_passes(self) -> None:
        """A file finished by a worker before its death and again by its new owner is not owned twice."""
        logs = [did('a', ('f', 1.0, 2.0)), did('b', ('f', 6.0, 7.0))]
        verdict = verdict_on(*logs, expected={'f': RIGHT}, deaths={'a': 3.0})
        assert verdict.ok
        assert (verdict.done, verdict.done_twice, verdict.redone_after_kill) == (1, ('f',), 1)

    def test_done_twice_without_a_death_is_counted_apart(self) -> None:
        """Only what a killed worker finished first is explained by the kill."""
        logs = [did('a', ('f', 1.0, 2.0)), did('b', ('f', 6.0, 7.0))]
        assert verdict_on(*logs, expected={'f': RIGHT}, deaths={'b': 9.0}).redone_after_kill == 0

    def test_a_clash_fails(self) -> None:
        """All files done is not enough when two processes had one at once."""
        verdict = verdict_on(did('a', ('f', 1.0, 3.0)), did('b', ('f', 2.0, 4.0)), expected={'f': RIGHT})
        assert verdict.done == 1
        assert not verdict.ok

    def test_a_shared_token_fails(self) -> None:
        """Nor is it enough when two processes owned one token at once, even if neither worked."""
        logs = [did('a', ('f', 1.0, 3.0)), owned('b', ({1}, 0.0, 2.0)), owned('c', ({1}, 1.0, 2.0))]
        assert not verdict_on(*logs, expected={'f': RIGHT}).ok

    def test_a_fault_fails(self) -> None:
        """A process that ended by itself fails the demo though others did its work."""
        verdict = judge({'f': RIGHT}, [did('a', ('f', 1.0, 3.0))], deaths={}, until=9.0, faults=['b ended by itself'])
        assert not verdict.ok


def seen(number: int, before: float, after: float) -> dict[str, Any]:
    return {'what': 'seen', 'set': number, 'before': before, 'after': after}


class TestSummarise:
    """From the lines of a log to what they say."""

    def test_readings_of_one_object_make_one_sighting(self) -> None:
        """It lasts from the end of its first reading to the start of its last, and knows the widest time between two."""
        events = [
            {'what': 'tokens', 'set': 1, 'gained': [1, 2], 'lost': []},
            seen(1, 0.0, 0.1),
            seen(1, 1.0, 1.1),
            seen(1, 3.0, 3.1),
        ]
        (sighting,) = summarise('a', events).sightings
        assert (sighting.tokens, sighting.first, sighting.last) == (frozenset({1, 2}), 0.1, 3.0)
        assert sighting.widest == pytest.approx(2.1)

    def test_a_change_begins_another(self) -> None:
        """Between two objects nothing is taken for certain."""
        events = [
            {'what': 'tokens', 'set': 1, 'gained': [1, 2], 'lost': []},
            seen(1, 0.0, 0.1),
            seen(1, 1.0, 1.1),
            {'what': 'tokens', 'set': 2, 'gained': [3], 'lost': [1]},
            seen(2, 2.0, 2.1),
        ]
        first, second = summarise('a', events).sightings
        assert (first.first, first.last) == (0.1, 1.0)
        assert (second.tokens, second.first, second.last) == (frozenset({2, 3}), 2.1, 2.0)

    def test_a_file_begun_and_not_ended_stays_open(self) -> None:
        """The log of a killed worker may stop in the middle of a file."""
        digest = {'lines': 1, 'words': 2, 'sha256': 'abc', 'error': ''}
        events = [
            {'what': 'start', 'node': 'a', 'pid': 7, 't': 0.0},
            {'what': 'begin', 'file': 'f', 't': 1.0},
            {'what': 'end', 'file': 'f', 't': 2.0, **digest},
            {'what': 'begin', 'file': 'g', 't': 3.0},
        ]
        log = summarise('a', events)
        assert log.pid == 7
        assert log.works == (Work('a', 'f', 1.0, 2.0, RIGHT), Work('a', 'g', 3.0))
