"""The orders that all workers of one demo get."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from jobsync import CoordinationConfig

__all__ = ['TOTAL_TOKENS', 'Orders', 'log_path']

TOTAL_TOKENS = 1000
_HEARTBEAT_SEC = 0.5
_HEARTBEATS_TO_TIMEOUT = 5
"""Few, so that a killed worker's files soon have another owner. Not fewer: a busy host must not look like a dead worker."""


@attrs.frozen
class Orders:
    """One set of orders for all workers, passed to them as a file."""

    root: str
    """The directory to digest."""
    files: list[str]
    """Paths relative to ``root``."""
    backend: str
    namespace: str
    pace_sec: float
    """The least time per file, in seconds. Without it all files would be read in a moment."""
    seed: int
    ease: float = 1.0
    """The factor on all intervals: more than 1 for more workers than the processors can serve."""

    def save(self, path: Path) -> None:
        """Write the orders to a file that only its owner can read: the backend's URL may contain a password."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(attrs.asdict(self)), encoding='utf-8')

    @classmethod
    def load(cls, path: Path) -> Orders:
        """Read the orders from a file."""
        return cls(**json.loads(path.read_text(encoding='utf-8')))

    @property
    def heartbeat_timeout_sec(self) -> float:
        """The heartbeat timeout of all workers, in seconds."""
        return _HEARTBEATS_TO_TIMEOUT * _HEARTBEAT_SEC * self.ease

    def config(self, minimum_nodes: int) -> CoordinationConfig:
        """Return the configuration of one worker. All intervals are short, so that the whole demo takes less than a minute."""
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
    """Return the path of a worker's log."""
    return folder / f'{node}.log'
