"""Scenes of the demo: owners of tokens (from the store) and finished files (from the workers' logs)."""

from __future__ import annotations

import contextlib
from collections import Counter

import attrs

from jobsync.backend import Assignment, Backend, NodeState, Snapshot
from jobsync.errors import BackendUnavailable
from jobsync_demo.orders import TOTAL_TOKENS
from jobsync_demo.supervisor import Fate, Worker

__all__ = ['ClusterReader', 'Progress', 'Scene', 'WorkerRow']


@attrs.frozen
class WorkerRow:
    """The state of one worker."""

    node: str
    pid: int
    state: str
    leads: bool
    tokens: int
    handing_over: int
    """Tokens that have another target."""
    files: int
    doing: str


@attrs.frozen
class Scene:
    """The state of the whole demo at one moment."""

    elapsed_sec: float
    files: int
    done: int
    total_tokens: int
    rows: tuple[WorkerRow, ...]


class Progress:
    """Progress of the work, from the workers' logs."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.by_node: Counter[str] = Counter()
        self.doing: dict[str, str] = {}
        self.entered: set[str] = set()
        self.complete_at: float | None = None
        """When the first worker read that every file is audited."""

    def follow(self, worker: Worker) -> None:
        """Read the worker's new events."""
        for event in worker.tail.read():
            match event['what']:
                case 'entered':
                    self.entered.add(worker.node)
                case 'begin':
                    self.doing[worker.node] = event['task']
                case 'end':
                    self.done.add(event['task'])
                    self.by_node[worker.node] += 1
                    self.doing.pop(worker.node, None)
                case 'complete':
                    self.complete_at = min(event['t'], self.complete_at or event['t'])
                case _:
                    pass


class ClusterReader:
    """Reads the cluster's state from the store, as a tool of an operator would."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._assignment = Assignment.empty(TOTAL_TOKENS)
        self._snapshot: Snapshot | None = None

    def scene(self, workers: list[Worker], progress: Progress, files: int, elapsed_sec: float) -> Scene:
        """Return the present scene. While the store does not answer, its part of the scene is the last that was read."""
        with contextlib.suppress(BackendUnavailable):
            self._snapshot = self._backend.snapshot()
            if self._snapshot.version != self._assignment.version:
                self._assignment = self._assignment.apply(self._backend.read_assignment(self._assignment.version))
        snapshot, assignment = self._snapshot, self._assignment
        owned = Counter(assignment.names[owner] for owner in assignment.owner if owner >= 0)
        leaving = Counter(assignment.names[assignment.owner[token]] for token in assignment.targets)
        joined = {n.name for n in snapshot.nodes if n.state is NodeState.JOINED} if snapshot else set()
        leader = snapshot.leadership.node.name if snapshot and snapshot.leadership.node else ''
        rows = tuple(
            WorkerRow(
                node=worker.node,
                pid=worker.process.pid,
                state=_state(worker, joined, progress),
                leads=worker.node == leader and worker.node in joined,
                tokens=owned[worker.node],
                handing_over=leaving[worker.node],
                files=progress.by_node[worker.node],
                doing=progress.doing.get(worker.node, ''),
            )
            for worker in workers
        )
        return Scene(
            elapsed_sec=elapsed_sec,
            files=files,
            done=len(progress.done),
            total_tokens=TOTAL_TOKENS,
            rows=rows,
        )


def _state(worker: Worker, joined: set[str], progress: Progress) -> str:
    match worker.fate:
        case Fate.RUNNING if worker.node in progress.entered:
            return 'working'
        case Fate.RUNNING:
            return 'joining' if worker.node in joined else 'starting'
        case Fate.KILLED if worker.node in joined:
            return 'killed, not noticed yet'
        case _:
            return str(worker.fate.value)
