"""The command ``jobsync demo``: what it accepts, what it refuses, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobsync.cli.commands import cli


def invoke(*arguments: str) -> Result:
    return CliRunner(env={'COLUMNS': '300'}).invoke(cli, arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with one file."""
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'file').write_text('one line\n')
    return tmp_path / 'in'


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--workers', '0'], '0 is not in the range 1<=x<=64'),
        (['--workers', '-3'], '-3 is not in the range'),
        (['--workers', '65'], '65 is not in the range'),
        (['--workers', 'many'], "'many' is not a valid integer"),
        (['--path', '/no/such/place'], "'/no/such/place' does not exist"),
        (['--path', __file__], 'is a file'),
        (['--seed', 'x'], "'x' is not a valid integer"),
        (['--backend', 'nonsense'], "backend is '***' (str): must be a URL"),
        (['--backend', 'carrier-pigeon://coop'], 'no backend answers to carrier-pigeon://'),
        (['--backend', 'memory://'], 'backend is memory://: must be one that several processes can reach'),
        (['--backend', 'sqlite:////no/such/place/jobs.db'], '/no/such/place'),
        (['--keep', __file__], 'is a file'),
        (['--nonsense'], 'No such option'),
    ],
)
def test_bad_input_gets_one_clear_error(arguments: list[str], said: str, folder: Path) -> None:
    """The message names the value and what is wrong with it; no traceback, no worker started."""
    result = invoke('demo', '--path', str(folder), *arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert 'Traceback' not in result.output
    assert 'processes started' not in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    """There must be something to do."""
    result = invoke('demo', '--path', str(tmp_path))
    assert result.exit_code == 1
    assert f'{tmp_path} holds no files' in result.output


def test_a_folder_in_use_is_not_written_into(folder: Path) -> None:
    """``--keep`` takes a new or empty folder, so that no file of the user is mixed with those of the demo."""
    result = invoke('demo', '--path', str(folder), '--keep', str(folder))
    assert result.exit_code == 1
    assert 'is not empty' in result.output
    assert [path.name for path in folder.iterdir()] == ['file']
