"""What every worker of one demo is told."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from jobsync import CoordinationConfig

__all__ = ['TOTAL_TOKENS', 'Orders', 'log_path']

TOTAL_TOKENS = 1000
_HEARTBEAT_SEC = 0.5
_HEARTBEATS_TO_TIMEOUT = 5
"""Few, so that a killed worker's files are taken up while one watches; but a busy host must not look like a dead worker."""


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
    ease: float = 1.0
    """How many times slower everything periodic is: more than 1 for more workers than the processors can serve."""

    def save(self, path: Path) -> None:
        """Write them to a file, for its owner's eyes only: the backend's URL may hold a password."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(attrs.asdict(self)), encoding='utf-8')

    @classmethod
    def load(cls, path: Path) -> Orders:
        """Read them back."""
        return cls(**json.loads(path.read_text(encoding='utf-8')))

    @property
    def heartbeat_timeout_sec(self) -> float:
        """How long a worker may be silent before it is taken for dead."""
        return _HEARTBEATS_TO_TIMEOUT * _HEARTBEAT_SEC * self.ease

    def config(self, minimum_nodes: int) -> CoordinationConfig:
        """The coordination of one worker: everything fast, as the whole demo is to be over within a minute."""
        interval = _HEARTBEAT_SEC * self.ease
        return CoordinationConfig(
            backend=self.backend,
            appname=self.namespace,
            minimum_nodes=minimum_nodes,
            total_tokens=TOTAL_TOKENS,
            heartbeat_interval_sec=interval,
            heartbeat_timeout_sec=self.heartbeat_timeout_sec,
            rebalance_check_interval_sec=interval,
            dead_node_check_interval_sec=interval,
            token_refresh_initial_interval_sec=interval,
            token_refresh_steady_interval_sec=interval,
            rebalance_delay_sec=0.3,
        )


def log_path(folder: Path, node: str) -> Path:
    """Where a worker writes its log."""
    return folder / f'{node}.log'
