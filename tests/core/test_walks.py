"""Random walks of a few agents: faults around the moment at which one that has stepped back leads again, and then a calm.

A rare order of events may leave each node waiting for another one. No task shows that while nothing has to move, so the walk
checks who leads as well, and ends with a newcomer. A call takes long enough for other calls to come in between.
"""

from __future__ import annotations

from random import Random

import pytest
from tests.core.bench import AWAY, TASKS, Bench

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.candidacy import LEAST_PAUSE
from jobsync.errors import JobsyncError

TIMEOUT_SEC, INTERVAL_SEC = 15.0, 5.0
WORK = (commands.TakeSnapshot, commands.PlanAndCommit, commands.ReadLocks, commands.AcquireLeadership)
LATE = (80, 495, 501, 675, 718, 807, 910, 939, 1270)
"""Walks that took longer, where a node that had stepped back, or was no member yet, did not watch the others."""
SEEDS = (*range(10), *LATE)


class Walk(Bench):
    """A cluster, and the faults that a seed draws."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        super().__init__(push=self.random.random() < 0.5)
        self.call_sec = self.random.choice([0.001, 0.02, 0.1])
        self.stuck: set[Agent] = set()
        """Agents whose work fails."""
        self.lost: list[tuple[Agent, type[commands.Command], bool]] = []
        """Calls that fail: of which agent, of which kind, and whether the store carries them out."""
        self.doomed: list[tuple[Agent, type[commands.Command]]] = []
        """Agents that die at their next call of this kind."""
        self.fault = self.strike_at

    def strike_at(self, agent: Agent, call: commands.Command) -> JobsyncError | None:
        """Fail a call that is to fail, or kill the agent that makes it."""
        if agent in self.stuck and isinstance(call, WORK):
            return AWAY
        for doom in [doom for doom in self.doomed if doom[0] is agent and isinstance(call, doom[1])]:
            self.doomed.remove(doom)
            if len(self.agents) > 2:
                self.kill(agent)
                return AWAY
        for lost in [lost for lost in self.lost if lost[0] is agent and isinstance(call, lost[1])]:
            self.lost.remove(lost)
            if lost[2]:
                self.perform(call)
            return AWAY
        return None if agent in self.agents else AWAY

    def storm(self) -> None:
        """Have one of the three oldest nodes step back, and cause faults about when it is to lead again."""
        rng = self.random
        agents = self.cluster(*'abcde'[: rng.choice([3, 4, 5])])
        returning = rng.choice(agents[:3])
        self.stuck.add(returning)
        if returning is not agents[0]:
            self.kill(agents[0])
        self.run_until(lambda: not self.record(returning.config.name).candidate, within=60.0)
        self.stuck.clear()
        at = self.now + LEAST_PAUSE * TIMEOUT_SEC - rng.choice([1.0, 6.0, 16.0, 21.0]) - INTERVAL_SEC * rng.random()
        self.run(at - self.now)
        for _ in range(rng.choice([1, 2, 3, 4])):
            agent = rng.choice(self.agents)
            match rng.choice(['kill', 'kill', 'lose', 'lose', 'lose', 'join']):
                case 'kill' if len(self.agents) > 2 and rng.random() < 0.5:
                    self.kill(agent)
                case 'kill':
                    self.doomed.append((agent, rng.choice([commands.PlanAndCommit, commands.Heartbeat, commands.TakeSnapshot])))
                case 'lose':
                    kind = rng.choice([commands.Heartbeat, commands.TakeSnapshot, commands.PlanAndCommit])
                    for one in rng.choice([[agent], [returning], self.agents]):
                        self.lost.append((one, kind, rng.random() < 0.5))
                case _ if len(self.agents) < 5:
                    self.start(rng.choice(sorted(set('fghij') - {one.config.name for one in self.agents})))
            self.run(rng.choice([0.0, 1.0, 5.0, 10.0, 15.0]) * rng.random())
        self.lost.clear()
        self.doomed.clear()

    def is_settled(self) -> bool:
        """Whether each token has one owner, each node its share, and the node that leads by the store can lead."""
        owners = [sum(self.claims(agent, task)[0] for agent in self.agents) for task in TASKS]
        leading = [agent for agent in self.agents if agent.epoch is not None and agent.config.name == self.leader]
        return owners == [1] * len(TASKS) and all(agent.is_settled for agent in self.agents) and len(leading) == 1


@pytest.mark.parametrize('seed', SEEDS)
def test_a_cluster_settles_soon_whatever_has_happened(seed: int) -> None:
    """P3, counted from the last fault: a timeout and 2 s, and an interval, since all may have been blind; P2 for the newcomer."""
    walk = Walk(seed)
    walk.storm()
    walk.run_until(walk.is_settled, within=TIMEOUT_SEC + INTERVAL_SEC + 2.0)
    newcomer = walk.start('z')
    walk.run_until(lambda: newcomer.is_settled, within=(1.0 if walk.push else 4 * INTERVAL_SEC) + 40 * walk.call_sec)
    walk.run(2 * INTERVAL_SEC)
    before = len(walk.made)
    walk.run(6 * INTERVAL_SEC)
    assert len(walk.made) - before <= 6 * 4 * len(walk.agents)
