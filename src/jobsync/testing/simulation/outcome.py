"""What a simulated world is like, and what became of it."""

from __future__ import annotations

import attrs

__all__ = ['Outcome', 'WorldConfig']


@attrs.frozen
class WorldConfig:
    """What a world is like, its seed apart."""

    nodes: int = 6
    """Names in use; half of them run at the start."""
    tokens: int = 24
    tasks: int = 10
    storm_sec: float = 400.0
    """How long the adversary is at work."""
    calm_sec: float = 200.0
    """How long the cluster then has to settle, at the usual timeout; longer where a node has a longer one."""
    drills: bool = True
    """Whether a settled cluster is then put through its drills."""
    hidden_rollbacks: bool = False
    """The store goes back in time without another identity or position: more than rule R8 promises to survive always."""


@attrs.frozen
class Outcome:
    """What became of a world. Each finding begins with the promise or the rule that broke."""

    seed: int
    violations: tuple[str, ...]
    """Moments at which two processes owned one token or task (P1)."""
    broken: tuple[str, ...]
    """Fences that did not rise (P7), tokens that came to another node while their owner's user was being told that they go, and
    members that a refusal of the store has ended (R9)."""
    unsettled: tuple[str, ...]
    """What was not as it should be after the calm, or in a drill."""
    history: tuple[str, ...]
    """What happened, with the time in seconds: until the first violation or break, or until the end."""

    @property
    def is_good(self) -> bool:
        """Whether everything held."""
        return not self.violations and not self.broken and not self.unsettled

    @property
    def promises(self) -> tuple[str, ...]:
        """Return the promises and rules that broke, each once."""
        findings = (*self.violations, *self.broken, *self.unsettled)
        return tuple(sorted({finding.split(':')[0].split(' ')[0] for finding in findings}))
