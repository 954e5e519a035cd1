"""Teams of rivals: rounds of tasks, each done once; and the queue that ours is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from threading import Thread
from typing import Any

import pytest
from benchmarks.baselines import teams
from benchmarks.baselines.teams import Team
from benchmarks.libraries.rounds import NotOnce, doing, judged
from benchmarks.libraries.skip_locked import Queue
from tests.support.servers import PostgresServer


class Member:
    """Answers as a process would that owns every task, or whatever ``tokens`` says."""

    def __init__(self, tokens: int = 10_000) -> None:
        self._tokens = tokens
        self._line = ''

    def send(self, line: str) -> None:
        """See ``LibraryProcess``."""
        self._line = line

    def ask(self, line: str) -> Any:
        """See ``LibraryProcess``."""
        self.send(line)
        return self.answer()

    def answer(self) -> Any:
        """See ``LibraryProcess``."""
        verb, first, count = self._line.split()
        match verb:
            case 'tokens':
                return self._tokens
            case 'recorded':
                return int(count)
        return doing(lambda done: done.extend(range(int(first), int(first) + int(count))))


def test_a_round_in_which_two_own_the_same_does_not_count() -> None:
    team = Team('ours', [Member(), Member()])  # type: ignore[list-item]
    done = team.round('claim', 10)
    assert done.twice == 10
    with pytest.raises(NotOnce, match='10 were done more than once'):
        done.check('ours')


def test_a_round_never_has_the_tasks_of_another() -> None:
    member = Member()
    team = Team('ours', [member])  # type: ignore[list-item]
    lines = []
    for _ in range(2):
        team.round('claim', 10)
        lines.append(member._line)
    assert lines == ['recorded 0 10', 'recorded 10 10']


def test_settling_waits_for_even_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teams, '_SETTLE_SEC', 0.0)
    Team('ours', [Member(3_334), Member(3_333), Member(3_333)]).settle()  # type: ignore[list-item]
    for shares in ((5_001, 4_999), (10_000, 10_000), (5_000, 4_000)):
        with pytest.raises(TimeoutError, match=str(shares[1])):
            Team('ours', [Member(share) for share in shares]).settle()  # type: ignore[misc]


@pytest.fixture(scope='module')
def server() -> Iterator[PostgresServer]:
    """PostgreSQL."""
    with closing(PostgresServer()) as started:
        yield started


@pytest.mark.postgres
@pytest.mark.parametrize('mode', ['one', 'kept', 'batch'])
def test_four_workers_of_the_queue_do_each_task_once(server: PostgresServer, mode: str) -> None:
    tasks = range(1_000, 1_500)
    queues = [Queue(server.url()) for _ in range(4)]
    queues[0].fill(tasks)
    assert queues[0].recorded(tasks) == 0
    answers: list[dict[str, Any]] = []
    threads = [Thread(target=lambda queue=queue: answers.append(doing(getattr(queue, mode)))) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    judged(answers, tasks.start, len(tasks), queues[0].recorded(tasks)).check(mode)
    assert len(answers) == 4
    for queue in queues:
        queue.close()


@pytest.mark.postgres
def test_a_decision_takes_nothing_from_the_queue(server: PostgresServer) -> None:
    with closing(Queue(server.url())) as queue:
        queue.fill(range(50))
        assert queue.decide(range(50)) > 0
        assert queue.recorded(range(50)) == 0
