"""``benchmarks.libraries.rounds``: what the answers of several processes come to."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.libraries.rounds import NotOnce, Round, doing, judged, line, numbers


def answer(began: float, ended: float, *tasks: int) -> dict[str, Any]:
    return {'began': began, 'ended': ended, 'tasks': list(tasks)}


def test_the_time_is_from_the_first_beginning_to_the_last_end() -> None:
    done = judged([answer(10.0, 12.0, 5, 7), answer(11.0, 15.0, 6, 8)], 5, 4, 4)
    assert done == Round(seconds=5.0, tasks=4, twice=0, missed=0, recorded=4)
    assert done.per_task == 1.25
    done.check('all')


def test_a_task_done_by_two_or_twice_by_one_is_counted_once_as_twice() -> None:
    assert judged([answer(0, 1, 0, 1, 1), answer(0, 1, 1, 2)], 0, 3, 3).twice == 1


def test_a_task_nobody_did_is_missed() -> None:
    assert judged([answer(0, 1, 0), answer(0, 1, 2)], 0, 4, 4).missed == 2


def test_a_task_of_another_round_is_refused() -> None:
    with pytest.raises(NotOnce, match='such as 9'):
        judged([answer(0, 1, 0, 1, 9)], 0, 2, 2)


@pytest.mark.parametrize('wrong', [{'twice': 1}, {'missed': 1}, {'recorded': 3}, {'recorded': 5}])
def test_a_round_counts_only_if_each_task_was_done_once_and_is_on_record(wrong: dict[str, int]) -> None:
    done = Round(seconds=1.0, tasks=4, twice=0, missed=0, recorded=4)
    done.check('all')
    with pytest.raises(NotOnce, match='somebody: of 4 tasks'):
        done._replace(**wrong).check('somebody')


def test_a_part_says_what_was_done_and_when() -> None:
    done = doing(lambda into: into.extend(numbers('3', '2')))
    assert done['tasks'] == [3, 4]
    assert done['began'] <= done['ended']


def test_a_line_names_the_round_that_its_numbers_make() -> None:
    verb, first, count = line('claim', 30, 20).split()
    assert verb == 'claim'
    assert numbers(first, count) == range(30, 50)
