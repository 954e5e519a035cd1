"""Worker processes that join, leave and are killed: forks of one process, on a SQLite file."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from jobsync_bench.churn import ChurnCluster


def test_no_worker_outlives_its_cluster(tmp_path: Path) -> None:
    """Also those that nothing has ended; the input of a worker that came earlier does not keep it alive."""
    others = psutil.Process().children(recursive=True)  # the servers of other tests
    with ChurnCluster({'backend': f'sqlite:///{tmp_path}/jobs.db', 'minimum_nodes': 1}) as cluster:
        cluster.form(2)
        left = cluster.leave()
        assert left.doubles == 0
        processes = [process for process in psutil.Process().children(recursive=True) if process not in others]
        assert len(processes) == 2, 'the process that forks, and one worker'
    assert not any(process.is_running() for process in processes)


def test_a_worker_that_fails_is_named_with_what_it_wrote(tmp_path: Path) -> None:
    """Its status is no end that the cluster has caused."""
    cluster = ChurnCluster({'backend': f'sqlite:///{tmp_path}/jobs.db', 'minimum_nodes': 0})
    with cluster, pytest.raises(RuntimeError, match=r'(?s)worker w01 ended with status 1: .*minimum_nodes'):
        cluster.form(1)


def test_a_process_that_cannot_begin_is_named_with_what_it_wrote() -> None:
    """Nothing is forked from it, and nothing waits for its workers."""
    with ChurnCluster({'backend': 'nowhere://'}) as cluster, pytest.raises(RuntimeError, match=r'(?s)all workers ended.*nowhere'):
        cluster.form(1)
