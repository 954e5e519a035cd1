"""The configuration of a simulated world, and the outcome of a run."""

from __future__ import annotations

import attrs

__all__ = ['Outcome', 'WorldConfig']


@attrs.frozen
class WorldConfig:
    """The size and the temper of a world. Everything else follows from its seed."""

    nodes: int = 6
    """Names in use. Half of them run at the start."""
    tokens: int = 24
    tasks: int = 10
    storm_sec: float = 400.0
    """How long the storm lasts."""
    calm_sec: float = 200.0
    """How long the cluster then has to settle; longer where timeouts differ from node to node."""
    drills: bool = True
    """Whether a settled cluster is then put through its drills."""
    hidden_rollbacks: bool = False
    """Whether the store goes back in time under the same identity and position. Rule R8 does not promise to notice every case."""
    retention_days: float | None = None
    """How long the leader keeps the history; None for ever."""


@attrs.frozen
class Outcome:
    """The findings of a run. Each begins with the promise or the rule that broke."""

    seed: int
    violations: tuple[str, ...]
    """Moments at which two processes owned one token or task (P1)."""
    broken: tuple[str, ...]
    """Fences that did not rise (P7), tokens that another node gained while ``on_revoke`` of their owner ran (R3), and members
    that a refusal of the store has ended (R9)."""
    unsettled: tuple[str, ...]
    """What was wrong after the calm, or in a drill."""
    history: tuple[str, ...]
    """Events with their time in seconds, up to the first promise that broke, or to the end."""

    @property
    def is_good(self) -> bool:
        """Return whether everything held."""
        return not self.violations and not self.broken and not self.unsettled

    @property
    def promises(self) -> tuple[str, ...]:
        """Return the promises and rules that broke, each once."""
        findings = (*self.violations, *self.broken, *self.unsettled)
        return tuple(sorted({finding.split(':')[0].split(' ')[0] for finding in findings}))
