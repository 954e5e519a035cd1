"""The report of a run, made of results that nobody measured."""

from __future__ import annotations

from pathlib import Path

import attrs
from benchmarks.pages import write_pages
from tests.bench.made_up import FIVE_TIMES, made_up_results, scenario

from jobsync_bench.figures import Series, Side
from jobsync_bench.report import text, write
from jobsync_bench.results import Part
from jobsync_bench.scenario import Needs
from jobsync_bench.targets import Pick, Target

_MISSED = Target('walking', Pick('time'), at_most=0.001)
_UNKNOWN = Target('swimming', Pick('time', case='under water'), at_most=0.001)
SCENARIO = scenario('walk', lambda _: None, Needs.NOTHING, FIVE_TIMES, _MISSED, _UNKNOWN)


def rows(report: str, begin: str) -> list[list[str]]:
    """The cells of the table whose first column is called so."""
    lines = report.partition(f'| {begin} ')[2].partition('\n\n')[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def test_it_says_where_and_when_and_what_went_wrong() -> None:
    report = text(made_up_results(), [SCENARIO])
    assert 'Measured on 2026-01-02 03:04 UTC in 1 minutes (a quick run' in report
    assert 'A Processor, 2 CPUs, 24 GB, Linux 6, load 0.5 at the start' in report
    assert '- nobody else was there' in report
    assert '- run on redis was not played to its end: RuntimeError: it fell' in report


def test_targets_reached_missed_and_unknown() -> None:
    report = text(made_up_results(), [SCENARIO])
    assert rows(report, 'what') == [
        ['walking: times the peer', 'at least 5.00x', '5.00x', 'reached', 'uphill'],
        ['walking', 'at most 1.00 ms', '2.00 ms', '**not reached**', 'uphill'],
        ['swimming', 'at most 1.00 ms', 'not measured', '', ''],
    ]
    assert 'swimming' not in text(made_up_results(), [SCENARIO], only_measured=True)


def test_a_run_without_any_target_has_no_table_of_them() -> None:
    assert 'must be reached' not in text(made_up_results(), [scenario()])


def test_ratios_come_first_and_say_how_many_times_ours_is_better() -> None:
    report = text(made_up_results(), [SCENARIO])
    header = next(line for line in report.splitlines() if line.startswith('| case'))
    assert [cell.strip() for cell in header.strip('|').split('|')] == [
        'case', 'peer / ours', 'ours / crow', 'ours', 'the middle half', 'p99', 'peer', 'crow', 'times measured',
    ]  # fmt: skip
    first, second = rows(report, 'case')
    assert first == ['uphill', '5.00x', '4.00x', '2.00 ms', '1.50 to 2.50 ms', '3.00 ms', '10.0 ms', '500 µs', '3']
    assert second[:4] == ['uphill (barefoot)', '2.50x', '8.00x', '4.00 ms']
    assert '| ours / peer |' in report, 'of a speed, more is better'
    assert '2.00x | 200 /s' in report


def test_a_scenario_that_measured_nothing_has_no_part() -> None:
    report = text(made_up_results(), [SCENARIO, scenario('run')])
    assert '## The walk' in report
    assert '## The run' not in report
    assert '**What it means.** What it is worth.' in report


def test_a_folder_has_report_and_pictures(tmp_path: Path) -> None:
    path = write(made_up_results(), [SCENARIO, scenario('run')], tmp_path)
    assert '![The walk](plots/walk.png)' in path.read_text()
    assert [each.name for each in (tmp_path / 'plots').iterdir()] == ['walk.png']
    assert (tmp_path / 'plots' / 'walk.png').read_bytes().startswith(b'\x89PNG')


def test_the_pages_of_the_documentation(tmp_path: Path) -> None:
    """One for each scenario that was measured, and one that leads to them; those of an earlier run go."""
    (tmp_path / 'swim.md').write_text('an earlier page')
    write_pages(made_up_results(), [SCENARIO, scenario('run')], tmp_path)
    assert sorted(each.name for each in tmp_path.glob('*.md')) == ['index.md', 'walk.md']
    index = (tmp_path / 'index.md').read_text()
    assert '\nwalk\n```' in index
    assert 'not reached' in index
    assert (tmp_path / 'walk.md').read_text().startswith('# The walk\n')
    assert '(plots/walk.png)' in (tmp_path / 'walk.md').read_text()


def test_a_run_of_some_scenarios_renews_their_pages_only(tmp_path: Path) -> None:
    """The page of a scenario says when it was measured; targets of scenarios that were not played keep their last result."""
    swim = scenario('swim', lambda _: None, Needs.NOTHING, Target('swim far', Pick('speed'), at_least=1.0))
    whole = made_up_results()
    whole.series.append(Series('swim', 'speed', '', 'uphill', 'ours', Side.OURS, [7.0]))
    write_pages(whole, [SCENARIO, swim, scenario('run')], tmp_path)
    assert 'Measured on' not in (tmp_path / 'walk.md').read_text()
    kept = (tmp_path / 'swim.md').read_text()
    some = made_up_results()
    some.parts.clear()
    write_pages(some, [SCENARIO, swim, scenario('run')], tmp_path)
    assert (tmp_path / 'swim.md').read_text() == kept
    assert 'Measured on 2026-01-02' in (tmp_path / 'walk.md').read_text()
    index = (tmp_path / 'index.md').read_text()
    (line,) = (line for line in index.splitlines() if line.startswith('| swim far'))
    assert [cell.strip() for cell in line.strip('| ').split('|')] == [
        'swim far',
        'at least 1.00 /s',
        '7.00 /s',
        'reached',
        'uphill',
    ]
    assert 'Some scenarios were measured later' in index
    assert '\nwalk\nswim\n```' in index
    write_pages(some, [SCENARIO, swim, scenario('run')], tmp_path)
    assert (tmp_path / 'index.md').read_text() == index


def test_a_whole_run_keeps_the_pages_of_scenarios_that_are_played_only_by_name(tmp_path: Path) -> None:
    """With their targets' last results: a run of many minutes is not to undo one of more."""
    far = attrs.evolve(
        scenario('swim', lambda _: None, Needs.NOTHING, Target('swim far', Pick('speed'), at_least=1.0)), by_default=False
    )
    swum = made_up_results()
    swum.series = [Series('swim', 'speed', '', 'uphill', 'ours', Side.OURS, [7.0])]
    swum.parts.clear()
    scenarios = [SCENARIO, far, scenario('run')]
    write_pages(made_up_results(), scenarios, tmp_path)
    write_pages(swum, scenarios, tmp_path)
    page = (tmp_path / 'swim.md').read_text()
    assert 'Measured on 2026-01-02' in page
    write_pages(made_up_results(), scenarios, tmp_path)
    assert (tmp_path / 'swim.md').read_text() == page
    index = (tmp_path / 'index.md').read_text()
    assert '\nswim\n' in index
    (line,) = (line for line in index.splitlines() if line.startswith('| swim far'))
    assert '7.00 /s' in line


def test_it_says_where_the_time_went() -> None:
    """The longest scenario first; a file of an earlier version, which lacks the times, has no such table."""
    results = made_up_results()
    assert 'Where the time' not in text(results, [SCENARIO])
    results.parts = [Part('run', '', 21.0, '', 0.0), Part('walk', '', 40.0, '', 21.0)]
    assert rows(text(results, [SCENARIO]), 'scenario') == [['all', '61 s'], ['walk', '40 s'], ['run', '21 s']]
