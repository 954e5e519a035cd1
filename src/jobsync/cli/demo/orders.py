"""What every worker of one demo is told."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from jobsync import CoordinationConfig

__all__ = ['HEARTBEAT_TIMEOUT_SEC', 'TOTAL_TOKENS', 'Orders', 'log_path']

TOTAL_TOKENS = 1000
HEARTBEAT_TIMEOUT_SEC = 2.5
"""Short, so that a killed worker's files are taken up while one watches; five heartbeats, so that a busy host does not
look like a dead worker."""


@attrs.frozen
class Orders:
    """The same for all workers; passed to them as a file."""

    root: str
    """The directory to digest."""
    files: list[str]
    """Relative to it."""
    backend: str
    namespace: str
    pace_sec: float
    """Time a file takes at least: what makes work of a few seconds out of files that are read in a moment."""
    seed: int

    def save(self, path: Path) -> None:
        """Write them to a file, for its owner's eyes only: the backend's URL may hold a password."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(attrs.asdict(self)), encoding='utf-8')

    @classmethod
    def load(cls, path: Path) -> Orders:
        """Read them back."""
        return cls(**json.loads(path.read_text(encoding='utf-8')))

    def config(self, minimum_nodes: int) -> CoordinationConfig:
        """The coordination of one worker: everything fast, as the whole demo is to be over within a minute."""
        return CoordinationConfig(
            backend=self.backend,
            appname=self.namespace,
            minimum_nodes=minimum_nodes,
            total_tokens=TOTAL_TOKENS,
            heartbeat_interval_sec=0.5,
            heartbeat_timeout_sec=HEARTBEAT_TIMEOUT_SEC,
            rebalance_check_interval_sec=0.5,
            dead_node_check_interval_sec=0.5,
            token_refresh_initial_interval_sec=0.5,
            token_refresh_steady_interval_sec=0.5,
            rebalance_delay_sec=0.3,
        )


def log_path(folder: Path, node: str) -> Path:
    """Where a worker writes its log."""
    return folder / f'{node}.log'
