"""Who is measured beside ours: rivals are started when they are needed, are gone afterwards, and never stand in our way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from benchmarks.baselines import ownership, plan, registry
from benchmarks.baselines.bare import bare_calls, bare_statements
from benchmarks.baselines.offering import Slots
from benchmarks.baselines.registry import BaselineRegistry
from benchmarks.libraries.environments import LibraryUnavailable
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios.plans import TASKS
from tests.bench.made_up import scenario
from tests.support.servers import PostgresServer

from jobsync import plugins
from jobsync._core.records import Settings
from jobsync.backend import BackendOptions
from jobsync_bench.bench import Bench, BenchStore, Party
from jobsync_bench.progress import PlainProgress
from jobsync_bench.scenarios.ownership import KINDS


@pytest.fixture
def bench() -> Iterator[Bench]:
    """On a store that is never reached."""
    with ExitStack() as stack:
        yield Bench(scenario(), BenchStore('paper', 'paper://'), True, PlainProgress(lambda _: None), None, stack)


class Things:
    """What is put into slots, and what became of it."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @contextmanager
    def thing(self, name: str) -> Iterator[str]:
        """One of them."""
        self.log.append(f'{name} begins')
        try:
            yield name
        except BaseException as error:
            self.log.append(f'{name} is ended by {type(error).__name__}')
            raise
        else:
            self.log.append(f'{name} ends')


def test_one_thing_in_each_slot(bench: Bench) -> None:
    """The next one takes the place of the last, so a process with a million tokens is not kept for nothing."""
    things = Things()
    with Slots(bench) as slots:
        assert slots.have('peer', 10, lambda: things.thing('small')) == 'small'
        assert slots.have('peer', 10, lambda: things.thing('another')) == 'small'
        assert slots.have('tooz', 10, lambda: things.thing('ring')) == 'ring'
        assert slots.have('peer', 20, lambda: things.thing('large')) == 'large'
        assert things.log == ['small begins', 'ring begins', 'small ends', 'large begins']
    assert things.log[4:] == ['large ends', 'ring ends']


def test_what_goes_wrong_is_told_to_what_is_in_the_slots(bench: Bench) -> None:
    """A process that is to end at once does not wait politely."""
    things = Things()
    with pytest.raises(KeyboardInterrupt), Slots(bench) as slots:
        slots.have('peer', 10, lambda: things.thing('small'))
        raise KeyboardInterrupt
    assert things.log == ['small begins', 'small is ended by KeyboardInterrupt']


def test_one_that_does_not_start_leaves_its_slot_empty(bench: Bench) -> None:
    @contextmanager
    def broken() -> Iterator[str]:
        raise RuntimeError('no')
        yield ''

    with Slots(bench) as slots:
        for _ in range(2):
            with pytest.raises(RuntimeError, match='no'):
                slots.have('peer', 10, broken)
        assert slots.have('peer', 10, lambda: Things().thing('small')) == 'small'


def test_rivals_that_cannot_be_had_are_noted_once_and_the_others_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_slots: Slots, _case: str) -> dict[str, Party]:
        raise LibraryUnavailable('tooz', 'no network')

    def broken(_slots: Slots, _case: str) -> dict[str, Party]:
        raise ValueError('strange')

    def there(_slots: Slots, _case: str) -> dict[str, Party]:
        return {'peer': Party(lambda: 2.0)}

    monkeypatch.setattr(registry, '_OFFERS', {('walk', 'time'): (absent, broken, there)})
    beside = BaselineRegistry()
    for _ in range(2):
        assert list(beside.find(bench, 'time', 'uphill')) == ['peer']
    assert beside.find(bench, 'speed', 'uphill') == {}
    first, second = bench.notes
    assert first.startswith("rival 'tooz' cannot be installed")
    assert second == 'walk: a rival could not be started: ValueError: strange'


def test_what_is_in_slots_ends_with_the_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    things = Things()

    def there(slots: Slots, _case: str) -> dict[str, Party]:
        slots.have('peer', '', lambda: things.thing('peer'))
        return {'peer': Party(lambda: 2.0)}

    monkeypatch.setattr(registry, '_OFFERS', {('walk', 'time'): (there,)})
    with ExitStack() as stack:
        bench = Bench(scenario(), None, True, PlainProgress(lambda _: None), None, stack)
        BaselineRegistry().find(bench, 'time', 'uphill')
        assert things.log == ['peer begins']
    assert things.log == ['peer begins', 'peer ends']


def test_offers_are_for_figures_that_there_are() -> None:
    figures = {(each.name, figure.name) for each in SCENARIOS for figure in each.figures}
    assert set(registry._OFFERS) <= figures


def test_offers_understand_the_cases_of_ours(bench: Bench) -> None:
    """The names of cases are what ours and theirs are matched by."""
    assert {ownership.words_of(f'{kind}, {owned}') for kind in KINDS for owned in ('owned', 'not owned')} == {
        (kind, owned) for kind in KINDS for owned in (0, 1)
    }
    assert set(plan._TASKS) <= set(TASKS)
    with Slots(bench) as slots:
        assert plan.peer(slots, 'half are back: 10,000 x 10') == {}


def test_the_smallest_calls_of_a_store(tmp_path: Path) -> None:
    with bare_calls('sqlite', f'sqlite:///{tmp_path}/jobs.db') as calls:
        assert calls is not None
        ask, write = calls
        assert ask() == (1,)
        write()
    with bare_calls('paper', 'paper://') as none:
        assert none is None


@pytest.mark.postgres
def test_bare_statements_insert_as_many_rows(newest_postgres: PostgresServer) -> None:
    url = newest_postgres.new_schema()
    backend = plugins.connect(url, BackendOptions('like_'))
    backend.open(Settings(10, 'xxh3', 1), create=True)
    backend.close()
    with bare_statements(url, 'like_', 5) as runs:
        for run in runs.values():
            assert run() > 0
            assert run() > 0
    schema = url.rpartition('%3D')[2]
    counts = [newest_postgres.psql(f'SELECT count(*) FROM {schema}.bare_{name}') for name in ('claim', 'lock')]
    assert counts == [['12'], ['10']]
