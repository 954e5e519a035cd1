"""``can_claim_task`` is written out for speed; here it is held against the plain form: key, then token, then who owns that."""

from __future__ import annotations

import math
import numbers
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.job.waiting import wait_until

from jobsync import CoordinationConfig, Job, Task
from jobsync._core.agent.ownership import Grant
from jobsync._core.hashing import HASH_FUNCTIONS, task_key, tokenizer
from jobsync.errors import ConfigError

TOKENS = 50


class Text(str):
    """A text of a kind of its own."""

    __slots__ = ()


class NamedTask(Task):
    """A task with a text of its own, which is not its key."""

    __slots__ = ()

    def __str__(self) -> str:
        return f'{self.key} ({self.name})'


class Number(int):
    """An integer with a text of its own."""

    __slots__ = ()

    def __str__(self) -> str:
        return 'a number'


class Int64:
    """An integer that is no ``int``, as those of numpy are."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __eq__(self, other: object) -> bool:
        return other == self._number

    def __hash__(self) -> int:
        return hash(self._number)

    def __index__(self) -> int:
        return self._number


numbers.Integral.register(Int64)

IDS: list[Any] = [
    *range(-100, 100),
    *(f'task-{number}' for number in range(100)),
    10**1000,
    ' ',
    'a\nb',
    '\x7f',
    'ü☃😀',
    Text('text'),
    Number(3),
    ('a', 1),
]
BAD_IDS: list[Any] = [
    10**5000,
    -(10**5000),
    '\0',
    'a\0b',
    '\ud800',
    'a\udcffb',
    Text('\0'),
    [1],
    {},
    object(),
    True,
    None,
    1.5,
    '',
    b'raw',
    Text(''),
]


def job(name: str, url: str, **settings: Any) -> Job:
    config = CoordinationConfig(backend=url, total_tokens=TOKENS, rebalance_delay_sec=0, heartbeat_interval_sec=0.2, **settings)
    return Job(name, coordination_config=config, wait_on_enter=0)


@pytest.fixture
def url() -> str:
    return f'memory://{uuid.uuid4().hex}'


@pytest.mark.parametrize('hash_function', HASH_FUNCTIONS)
def test_it_says_what_the_plain_form_says(url: str, hash_function: str) -> None:
    """For ids of every kind, bare or as a ``Task``, under every hash function."""
    token_of = tokenizer(hash_function, TOKENS)
    with job('a', url, hash_function=hash_function) as a, job('b', url, hash_function=hash_function):
        wait_until(lambda: len(a.my_tokens) == TOKENS // 2, 'the other has its share')
        mine = a.my_tokens
        for task in IDS:
            expected = token_of(task_key(task)) in mine
            assert a.can_claim_task(task) is a.can_claim_task(Task(task)) is expected, task


def test_a_task_of_a_class_of_its_own(url: str) -> None:
    """Two nodes answer by the task's key, whatever its text is: one of them may work on it, and a loop over all does all."""
    tasks = [NamedTask(number, 'name') for number in range(50)]
    with job('a', url) as a, job('b', url) as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'both have their share')
        for task in tasks:
            assert [a.can_claim_task(task), b.can_claim_task(task)] == [a.can_claim_task(task.key), b.can_claim_task(task.key)]
        done = [*a.claim(tasks), *b.claim(tasks)]
        assert sorted(task.key for task in done) == sorted(task.key for task in tasks)


@pytest.mark.parametrize('task', BAD_IDS, ids=range(len(BAD_IDS)))
def test_bad_ids_are_refused_at_every_time(url: str, task: object) -> None:
    """As ``task_key`` refuses them: before the block is entered, in it, and after it."""
    with pytest.raises(ConfigError) as plain:
        task_key(task)
    one = job('a', url)

    def refusal() -> str:
        with pytest.raises(ConfigError) as refused:
            one.can_claim_task(task)
        return str(refused.value)

    before = refusal()
    with one:
        inside = refusal()
    assert before == inside == refusal() == str(plain.value)


# --- what may happen while it is being answered -----------------------------------------------------------------------------


class HeldLease:
    """A lease with which something happens whenever its grant is read: to a thread that has to wait, between two steps."""

    ends_at = math.inf

    def __init__(self, read: Callable[[], Grant]) -> None:
        self._read = read

    @property
    def grant(self) -> Grant:
        """What is granted just now."""
        return self._read()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Grant], Callable[[], float]], bool]:
    """What a job says of a task, with this grant and this clock."""

    def answer(read: Callable[[], Grant], clock: Callable[[], float]) -> bool:
        one = job('a', 'memory://never-opened')
        monkeypatch.setattr('jobsync.job.clock', SimpleNamespace(now=clock))
        monkeypatch.setattr(one._session, 'lease', HeldLease(read))
        return one.can_claim_task('x')

    return answer


Asked = Callable[[Callable[[], Grant], Callable[[], float]], bool]
PINS: list[dict[str, bool] | None] = [None, {'x': True}]


@pytest.mark.parametrize('pins', PINS)
def test_a_lease_that_ends_while_the_thread_waits(asked: Asked, pins: dict[str, bool] | None) -> None:
    """The clock is read after the grant: a lease that has ended in between, perhaps long ago, is over."""
    time = 0.0

    def read() -> Grant:
        nonlocal time
        time += 100.0  # the thread has to wait right before or after
        return 50.0, pins, (True,) * TOKENS

    assert asked(read, lambda: time) is False


@pytest.mark.parametrize('pins', PINS)
def test_a_grant_is_read_as_one_value(asked: Asked, pins: dict[str, bool] | None) -> None:
    """What was owned under a lease that is over, and a later lease under which it is not owned, do not make a True."""
    grants = [(50.0, pins, (True,) * TOKENS), *[(150.0, pins and {'x': False}, (False,) * TOKENS)] * 9]
    assert asked(lambda: grants.pop(0), lambda: 100.0) is False
    grants = [(150.0, pins and {'x': False}, (False,) * TOKENS), *[(50.0, pins, (True,) * TOKENS)] * 9]
    assert asked(lambda: grants.pop(0), lambda: 100.0) is False


@pytest.mark.parametrize('pins', PINS)
def test_a_signal_whose_handler_leaves(asked: Asked, pins: dict[str, bool] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It interrupts this very thread once the grant is read: another node may own the task before the handler returns."""

    def clock() -> float:
        monkeypatch.setattr(HeldLease, 'ends_at', 40.0)
        return 30.0

    assert asked(lambda: (50.0, pins, (True,) * TOKENS), clock) is False


@pytest.mark.parametrize('pins', PINS)
def test_a_grant_that_stands(asked: Asked, pins: dict[str, bool] | None) -> None:
    """Until the very end of the lease, and not at its end."""
    grant = (50.0, pins, (True,) * TOKENS)
    assert asked(lambda: grant, lambda: 49.9) is True
    assert asked(lambda: grant, lambda: 50.0) is False


def test_a_token_may_be_an_integer_of_another_library(url: str) -> None:
    """``owns`` takes a token from a column of numpy or pandas; a truth value is no token."""
    other: Any = Int64(3)
    with job('a', url) as a:
        assert a.owns(3)
        assert a.owns(other)
        for value in (True, '3', 3.0, None):
            with pytest.raises(ConfigError, match='token is'):
                a.owns(value)  # type: ignore[arg-type]
