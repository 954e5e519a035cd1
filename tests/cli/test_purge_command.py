"""``jobsync purge``: what is deleted, and what is refused."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobsync import Cluster, CoordinationConfig, Job
from jobsync.cli.commands import cli


def invoke(*arguments: str) -> Result:
    return CliRunner(env={'COLUMNS': '300'}).invoke(cli, ['purge', '--yes', *arguments])


def test_old_records_of_a_namespace_are_deleted(tmp_path: Path) -> None:
    """What is older than asked, of the kinds asked; incomplete work stays."""
    url = f'sqlite:///{tmp_path}/jobs.db'
    config = CoordinationConfig(backend=url, appname='mine_', minimum_nodes=1)
    with Job('a', coordination_config=config) as job:
        assert list(job.claim(['x'])) == ['x']
        assert job.add_task('open')
    here = ('-b', url, '--appname', 'mine_')
    result = invoke(*here, '--older-than', '1')
    assert result.output.splitlines() == ['0 claims deleted', '0 audits deleted', '0 rebalances deleted']
    result = invoke(*here, '--before', '2100-01-01', '--kind', 'claim')
    assert (result.exit_code, result.output) == (0, '1 claim deleted\n')
    result = invoke(*here, '--before', '2100-01-01', '--kind', 'claim', '--kind', 'audit')
    assert result.output.splitlines() == ['0 claims deleted', '1 audit deleted']


def test_a_moment_is_in_utc_whatever_the_time_zone_of_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken for local time, west of Greenwich it would be hours later, and younger records would go."""
    moments = list[object]()

    def purge(_: Cluster, **options: object) -> dict[str, int]:
        moments.append(options['before'])
        return {}

    monkeypatch.setattr(Cluster, 'purge', purge)
    monkeypatch.setenv('TZ', 'America/New_York')
    time.tzset()
    try:
        result = invoke('-b', f'sqlite:///{tmp_path}/none.db', '--before', '2026-03-02T10:00:00')
    finally:
        monkeypatch.undo()
        time.tzset()
    assert result.exit_code == 0
    assert moments == [dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC)]


def test_a_store_without_the_namespace_is_one_line(tmp_path: Path) -> None:
    """Nothing is made, and the error says what is missing."""
    result = invoke('-b', f'sqlite:///{tmp_path}/none.db', '--older-than', '1')
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert 'none.db' in result.output
    assert not list(tmp_path.iterdir())


def test_a_purge_without_an_age_is_refused(tmp_path: Path) -> None:
    """One of the two options is needed, and no more."""
    for options in ((), ('--older-than', '1', '--before', '2026-01-01')):
        result = invoke('-b', f'sqlite:///{tmp_path}/none.db', *options)
        assert result.exit_code == 2
        assert '--older-than or --before' in result.output


def test_an_age_beyond_all_records_is_refused_in_days(tmp_path: Path) -> None:
    """The error has the number and the unit of the option."""
    result = invoke('-b', f'sqlite:///{tmp_path}/none.db', '--older-than', '20000')
    assert result.exit_code == 2
    assert "'--older-than': 20000.0 is not in the range 0<=x<=10000" in result.output
