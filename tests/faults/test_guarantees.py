"""The page on guarantees: its list of defects is the file's, each names what shows it, and its figures are whole."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest
from tests.faults.page import (
    BEGIN,
    END,
    LARGE_BEGIN,
    LARGE_END,
    PAGE,
    Defect,
    defect_lines,
    defects,
    figure_lines,
    large_lines,
    written,
)  # fmt: skip
from tests.faults.places import PLACES

ROOT = Path(__file__).parents[2]
AGAIN = 'to write the page anew: python -m tests.faults.page'
PROMISE = re.compile(r'P[1-8]|records|contract')


@pytest.mark.parametrize('defect', defects(), ids=lambda defect: '-'.join(defect.mended))
def test_a_defect_names_a_promise_and_what_shows_it(defect: Defect) -> None:
    """What shows a defect is in the repository, under the name that is given."""
    assert defect.what.endswith('.')
    assert '|' not in defect.what
    assert PROMISE.fullmatch(defect.promise)
    assert all(re.fullmatch('[0-9a-f]{7}', commit) for commit in defect.mended)
    assert defect.mended
    if defect.shown:
        path, _, name = defect.shown.partition('::')
        assert (ROOT / path).is_file()
        assert re.search(rf'^ *(?:async )?def {name}\b', (ROOT / path).read_text(), re.MULTILINE) or not name


def test_the_page_has_every_defect() -> None:
    """And no other."""
    listed = PAGE.read_text().partition('<!-- defects -->')[2].strip().splitlines()
    assert listed == defect_lines(), AGAIN


def test_commits_exist() -> None:
    """Each commit is one of this repository, where its history is there."""
    found = subprocess.run(['git', 'rev-parse', '--is-shallow-repository'], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.stdout.strip() != 'false':
        pytest.skip('the history is not there')
    log = subprocess.run(['git', 'log', '--format=%h', '--abbrev=7'], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {commit for defect in defects() for commit in defect.mended} <= set(log.stdout.split())


def test_the_page_has_figures_of_every_store() -> None:
    """A dated row for each store, in which nothing was owned twice."""
    figures = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert re.search(r'Measured on \d{4}-\d\d-\d\d', figures)
    first = [line.strip('| ').split(' | ') for line in figures.splitlines() if line.startswith('|')][2 : 2 + len(PLACES)]
    assert [row[0] for row in first] == list(PLACES)
    assert all(row[4:7] == ['0', '0', '0'] for row in first)


def test_the_page_has_figures_of_many_nodes() -> None:
    """In none of these was anything owned twice."""
    figures = PAGE.read_text().partition(LARGE_BEGIN)[2].partition(LARGE_END)[0]
    lines = [line.strip('| ').split(' | ') for line in figures.splitlines() if line.startswith('|')][2:]
    first = list(itertools.takewhile(lambda row: row[0] != 'store', lines))
    assert {row[0] for row in first} <= set(PLACES)
    assert first
    assert all(row[4:7] == ['0', '0', '0'] for row in first)


def test_figures_count_what_is_late() -> None:
    """The longest gap of each promise, and how often it was longer than promised; what was owned twice is added up."""
    alone = {'faults': ['kill the leader'], 'gap_sec': 5.0, 'bound_sec': 4.5, 'settled': True}
    both = {'faults': ['kill the leader', 'leave'], 'gap_sec': 9.0, 'bound_sec': None, 'settled': False}
    row = {
        'at': '2026-11-26T10:00:00+00:00', 'store': 'redis', 'seconds': 90.0, 'owned_twice': 0.25, 'answered_twice': 1,
        'worked_twice': 0, 'tasks': 10, 'missed': 0, 'deaths': 3, 'parts': [alone, {**alone, 'gap_sec': 4.0}, both],
    }  # fmt: skip
    lines = figure_lines([row, row])
    assert '| redis | 3 | 8 | 2 | 0.5 | 2 | 0 | 20 | 0 | 2 | 6 |' in lines
    assert any(line.startswith('| redis |') and '5.0 (2 of 4)' in line for line in lines)
    assert any(line.startswith('| kill the leader |') and '| 6 |' in line for line in lines)


def test_figures_of_many_nodes_have_each_fault() -> None:
    """A fault that happened has the longest gap, the bound and the time until every token had an owner; others have no row."""
    killed = {'faults': ['kill the leader'], 'gap_sec': 5.0, 'bound_sec': 17.0, 'settle_sec': 2.25, 'settled': True}
    paused = {'faults': ['kill all'], 'gap_sec': 9.0, 'bound_sec': None, 'settle_sec': 0.0, 'settled': True}
    row = {
        'at': '2026-11-26T10:00:00+00:00', 'store': 'redis', 'seconds': 90.0, 'owned_twice': 0, 'answered_twice': 0,
        'worked_twice': 0, 'tasks': 10, 'missed': 0, 'deaths': 0, 'parts': [killed, paused],
    }  # fmt: skip
    lines = large_lines([row, {**row, 'store': 'etcd', 'parts': [killed]}])
    assert lines[-2:] == ['| kill the leader | 5.0 (17), 2.2 | 5.0 (17), 2.2 |', '| kill all | 9.0, 0.0 |  |']


def test_a_section_takes_other_lines() -> None:
    """What stands around it stays."""
    assert written('a\n<b>\nold\n<e>\nz\n', '<b>', '<e>', ['new', 'newer']) == 'a\n<b>\nnew\nnewer\n<e>\nz\n'
