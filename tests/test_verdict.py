"""What worker logs prove, on logs made up for it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import pytest

from jobsync import Job
from jobsync.testing.verdict import Gap, finished, gaps, longest_gap, owned_at_once, widest_reading, worked_at_once
from jobsync.testing.worker_log import LogTail, LogWriter, Sighting, Work, WorkerLog, log_tokens, summarise


def did(node: str, *works: tuple[str, float, float | None]) -> WorkerLog:
    return WorkerLog(node, works=tuple(Work(node, task, begin, end) for task, begin, end in works))


def owned(node: str, *sightings: tuple[set[int], float, float]) -> WorkerLog:
    return WorkerLog(node, sightings=tuple(Sighting(node, frozenset(s), first, last) for s, first, last in sightings))


class TestWorkedAtOnce:
    """Tasks that two processes worked on at one instant."""

    def test_work_one_after_the_other_is_no_overlap(self) -> None:
        """Two processes may have one task, as long as the times do not meet."""
        logs = [did('a', ('f', 1.0, 2.0)), did('b', ('f', 2.0, 3.0))]
        assert worked_at_once(logs) == ()

    def test_different_tasks_do_not_overlap(self) -> None:
        """Working at the same time on different tasks is what workers are for."""
        assert worked_at_once([did('a', ('f', 1.0, 3.0)), did('b', ('g', 1.0, 3.0))]) == ()

    def test_an_overlap_is_found(self) -> None:
        """An overlap is reported with both nodes and its exact time, whichever log comes first."""
        logs = [did('b', ('f', 2.5, 4.0)), did('a', ('f', 1.0, 3.0))]
        (overlap,) = worked_at_once(logs)
        assert (overlap.thing, overlap.nodes, overlap.begin, overlap.end) == ('f', ('a', 'b'), 2.5, 3.0)

    def test_a_long_span_hides_behind_no_short_one(self) -> None:
        """A span that began long before and is not over yet is compared too."""
        logs = [did('a', ('f', 0.0, 10.0)), did('b', ('f', 1.0, 2.0)), did('c', ('f', 5.0, 6.0))]
        assert {overlap.nodes for overlap in worked_at_once(logs)} == {('a', 'b'), ('a', 'c')}

    def test_three_at_once_are_three_pairs(self) -> None:
        """Every pair that overlaps is reported."""
        logs = [did(node, ('f', 1.0, 2.0)) for node in 'abc']
        assert len(worked_at_once(logs)) == 3

    def test_a_process_does_not_overlap_with_itself(self) -> None:
        """One process may come back to a task."""
        assert worked_at_once([did('a', ('f', 1.0, 3.0), ('f', 2.0, 4.0))]) == ()

    def test_a_killed_worker_has_its_task_until_its_death(self) -> None:
        """An unfinished task counts up to the kill, and not beyond."""
        dead = did('a', ('f', 1.0, None))
        assert worked_at_once([dead, did('b', ('f', 4.9, 6.0))], {'a': 5.0})
        assert not worked_at_once([dead, did('b', ('f', 5.0, 6.0))], {'a': 5.0})


class TestOwnedAtOnce:
    """Tokens that two processes owned at one instant."""

    def test_a_shared_token_is_found(self) -> None:
        """A token in two sets at one instant is reported, and only that token."""
        logs = [owned('a', ({1, 2}, 0.0, 2.0)), owned('b', ({2, 3}, 1.0, 3.0))]
        (overlap,) = owned_at_once(logs)
        assert (overlap.thing, overlap.nodes, overlap.begin, overlap.end) == ('token 2', ('a', 'b'), 1.0, 2.0)

    def test_a_hand_over_is_no_overlap(self) -> None:
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

    def test_without_an_end_the_measurement_ends_with_the_last_reading(self) -> None:
        """The last reading of any log is the end, if none is given."""
        logs = [owned('a', ({1}, 0.0, 2.0)), owned('b', (set(), 0.0, 9.0))]
        assert longest_gap(logs) == longest_gap(logs, until=9.0) == Gap(1, 7.0, 'a', '')

    def test_no_token_no_gap(self) -> None:
        """Where nobody owned anything there is nothing to measure."""
        assert longest_gap([owned('a', (set(), 0.0, 9.0))], until=9.0) is None


class TestGaps:
    """Every time in which a token had no owner."""

    LOGS = (owned('a', ({1}, 0.0, 2.0)), owned('b', ({1}, 3.0, 5.0)), owned('c', ({1}, 5.0, 7.0)))

    def test_one_between_two_sightings_and_one_at_the_end(self) -> None:
        """A hand-over without a pause is a gap of 0 seconds, and the last gap ends with the measurement."""
        assert list(gaps(self.LOGS, until=9.0)) == [Gap(1, 1.0, 'a', 'b'), Gap(1, 0.0, 'b', 'c'), Gap(1, 2.0, 'c', '')]

    def test_what_was_before_the_measurement_does_not_count(self) -> None:
        """A gap around the start of the measurement begins there, and an earlier one is left out."""
        assert next(gaps(self.LOGS, until=9.0, since=2.75)) == Gap(1, 0.25, 'a', 'b')
        assert next(gaps(self.LOGS, until=9.0, since=4.0)) == Gap(1, 0.0, 'b', 'c')


def test_finished_works_are_in_order_of_their_ends() -> None:
    """A task that was done twice has both works, and one that was only begun has none."""
    logs = [did('a', ('f', 5.0, 6.0), ('g', 7.0, None)), did('b', ('f', 1.0, 2.0))]
    assert {task: [work.node for work in works] for task, works in finished(logs).items()} == {'f': ['b', 'a']}


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

    def test_a_worker_that_is_started_again_has_what_it_reads_then(self) -> None:
        """Its log goes on under the same name: what the killed process owned is not its own, nor is the time between the two."""
        events = [
            {'what': 'tokens', 'set': 1, 'gained': [1, 2], 'lost': []},
            seen(1, 0.0, 0.1),
            seen(1, 1.0, 1.1),
            {'what': 'tokens', 'set': 1, 'gained': [2], 'lost': []},
            seen(1, 9.0, 9.1),
            seen(1, 10.0, 10.1),
        ]
        first, second = summarise('a', events).sightings
        assert (first.tokens, first.first, first.last) == (frozenset({1, 2}), 0.1, 1.0)
        assert (second.tokens, second.first, second.last) == (frozenset({2}), 9.1, 10.0)

    def test_the_end_of_a_task_is_that_of_its_begin(self) -> None:
        """The threads of a worker have several tasks at once, and one of them may outlast the others."""
        events = [
            {'what': 'begin', 'task': 'f', 't': 1.0},
            {'what': 'begin', 'task': 'g', 't': 2.0},
            {'what': 'end', 'task': 'g', 't': 3.0},
            {'what': 'end', 'task': 'f', 't': 9.0},
        ]
        log = summarise('a', events)
        assert log.works == (Work('a', 'f', 1.0, 9.0), Work('a', 'g', 2.0, 3.0))
        assert worked_at_once([log, did('b', ('f', 4.0, 5.0))])

    def test_a_task_begun_and_not_ended_stays_open(self) -> None:
        """The log of a killed worker may stop in the middle of a task."""
        digest = {'lines': 1, 'words': 2, 'sha256': 'abc', 'error': ''}
        events = [
            {'what': 'start', 'node': 'a', 'pid': 7, 't': 0.0},
            {'what': 'begin', 'task': 'f', 't': 1.0},
            {'what': 'end', 'task': 'f', 't': 2.0, **digest},
            {'what': 'begin', 'task': 'g', 't': 3.0},
        ]
        log = summarise('a', events)
        assert log.pid == 7
        assert log.works == (Work('a', 'f', 1.0, 2.0, digest), Work('a', 'g', 3.0))


def test_readings_of_tokens_are_logged(tmp_path: Path) -> None:
    """Each new set is logged once with what it gained and lost, and each reading with the set that it found."""
    few, more, over = frozenset({1, 2}), frozenset({2, 3, 4}), threading.Event()
    readings = [few, few, more]

    class StandIn:
        @property
        def my_tokens(self) -> frozenset[int]:
            """What is read next; after the last reading, all is over."""
            if len(readings) == 1:
                over.set()
            return readings.pop(0)

    log_tokens(cast('Job', StandIn()), LogWriter(tmp_path / 'log'), 0.0, over)
    events = LogTail(tmp_path / 'log').read()
    assert [event['set'] for event in events] == [1, 1, 1, 2, 2]
    assert [(e['gained'], e['lost']) for e in events if e['what'] == 'tokens'] == [([1, 2], []), ([3, 4], [1])]
    assert [sighting.tokens for sighting in summarise('a', events).sightings] == [few, more]


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    """A reader sees whole lines only, each once."""
    path = tmp_path / 'log'
    tail = LogTail(path)
    assert tail.read() == []
    LogWriter(path).write('begin', task='f', t=1.0)
    with path.open('a') as file:
        file.write('{"what": "en')
    assert tail.read() == [{'what': 'begin', 'task': 'f', 't': 1.0}]
    with path.open('a') as file:
        file.write('d"}\n')
    assert tail.read() == [{'what': 'end'}]
