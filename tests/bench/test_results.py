"""Results in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.bench.made_up import made_up_results

from jobsync.errors import JobsyncError
from jobsync_bench.results import FORMAT, Results


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results, path = made_up_results(), tmp_path / 'results.json'
    results.write(path)
    assert Results.read(path) == results
    assert [each.name for each in tmp_path.iterdir()] == ['results.json']


def test_the_file_has_a_format_and_what_it_was_measured_on(tmp_path: Path) -> None:
    results = Results(quick=False)
    results.write(tmp_path / 'results.json')
    told = json.loads((tmp_path / 'results.json').read_text())
    assert told['format'] == FORMAT
    assert told['machine']['cpus'] >= 1
    assert told['versions'].keys() >= {'Python', 'jobsync', 'SQLAlchemy'}


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'holds no results'),
        ('[]', 'holds no results'),
        ('{"format": 1}', 'holds no results'),
        ('{"format": 99}', 'is of format 99, and this jobsync reads format 1'),
    ],
)
def test_other_files_are_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / 'results.json'
    path.write_text(text)
    with pytest.raises(JobsyncError, match=words):
        Results.read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobsyncError, match='No such file'):
        Results.read(tmp_path / 'nothing.json')
