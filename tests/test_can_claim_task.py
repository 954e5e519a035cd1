"""``can_claim_task`` is written out for speed; here it is held against the plain form: key, then token, then who owns that."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from jobsync import CoordinationConfig, Job, Task
from jobsync.core.hashing import HASH_FUNCTIONS, task_key, tokenizer
from jobsync.errors import ConfigError

TOKENS = 50


class Text(str):
    """A text of a kind of its own."""

    __slots__ = ()


class Number(int):
    """An integer with a text of its own."""

    __slots__ = ()

    def __str__(self) -> str:
        return 'a number'


IDS: list[Any] = [
    *range(-100, 100),
    *(f'task-{number}' for number in range(100)),
    10**1000,
    True,
    None,
    1.5,
    '',
    ' ',
    'a\nb',
    '\x7f',
    'ü☃😀',
    Text('text'),
    Number(3),
    ('a', 1),
    b'raw',
]
BAD_IDS: list[Any] = [10**5000, -(10**5000), '\0', 'a\0b', '\ud800', 'a\udcffb', Text('\0'), [1], {}, object()]


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
        mine = a.my_tokens
        assert len(mine) == TOKENS // 2
        for task in IDS:
            expected = token_of(task_key(task)) in mine
            assert a.can_claim_task(task) is a.can_claim_task(Task(task)) is expected, task


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
