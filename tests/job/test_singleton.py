"""``singleton``: a place that one worker of the whole cluster holds at a time."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_for_progress, wait_until
from tests.support.starts import in_flight

from jobsync import AsyncJob, ConfigError, CoordinationConfig, Job, JobsyncError, NotOwned, WrongProcess
from jobsync._worker.stages import SessionEvent

pytestmark = pytest.mark.any_store

DEADLINE_SEC = 120


class Holder:
    """A thread that takes turns, and waits in each until it is over."""

    def __init__(self, job: Job, name: str = 'x') -> None:
        self.turns = 0
        self.is_in = False
        self._job, self._name = job, name
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for turn in self._job.singleton(self._name):
            self.turns += 1
            self.is_in = True
            turn.wait()
            self.is_in = False

    def join(self) -> None:
        """Wait for the end of the loop."""
        self.thread.join(DEADLINE_SEC)
        assert not self.thread.is_alive()


def test_it_passes_on(store: Store) -> None:
    """Of two nodes one holds the place, the one that ``can_claim_task`` names; the other one gets it when that leaves."""
    with store.job('a') as a:
        with store.job('b') as b:
            holders = {a: Holder(a), b: Holder(b)}
            wait_until(lambda: any(holder.is_in for holder in holders.values()), 'one holds it')
            owner = next(job for job, holder in holders.items() if holder.is_in)
            assert [job.can_claim_task('singleton:x') for job in (owner, a if owner is b else b)] == [True, False]
            assert sum(holder.is_in for holder in holders.values()) == 1
            if owner is a:  # leave the place to the other
                b.register_task_lock('singleton:x', 'b')
                wait_until(lambda: holders[b].is_in and not holders[a].is_in, 'the lock moves it')
            b.clear_all_locks()
        holders[b].join()
        wait_until(lambda: holders[a].is_in, 'the other one holds it')
    holders[a].join()


def test_an_object_that_is_in_use(store: Store) -> None:
    """A second block of an object is refused, also amid one without a turn, whose end would give the turn of the second back."""
    with store.job('a') as job:
        shared = job.singleton('x')
        with job.singleton('x'), shared as refused:
            assert not refused
            with pytest.raises(JobsyncError, match='this very object'), shared:
                pass
        with shared as turn, job.singleton('x') as other:
            assert turn
            assert not other


@pytest.mark.parametrize('is_loop', [False, True])
def test_a_turn_is_over_with_its_body(store: Store, is_loop: bool) -> None:
    """A thread that the body has started does not go on beside the next worker of the node."""
    with store.job('a') as job:
        place = job.singleton('x')
        if is_loop:
            for turn in place:
                assert turn
                break
        else:
            with place as turn:
                assert turn
        assert not turn
        with job.singleton('x') as second:
            assert second
            assert not turn


def test_a_turn_is_over_with_its_body_on_an_event_loop(store: Store) -> None:
    """Also if the loop goes on: the next turn is another one."""

    async def work() -> None:
        async with store.async_job('a') as job:
            async with job.singleton('x') as turn:
                assert turn
            assert not turn
            turns = aiter(job.singleton('x'))
            first, second = await anext(turns), await anext(turns)
            assert [bool(first), bool(second)] == [False, True]

    asyncio.run(work())


def test_a_turn_is_over_before_its_place_is_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may take the place at that moment, and a thread that the body has started may test the turn."""
    with store.job('a') as job:
        place, seen = job.singleton('x'), list[bool]()
        give_back = place._place.give_back

        def noted() -> None:
            seen.append(bool(turn))
            give_back()

        with place as turn:
            monkeypatch.setattr(place._place, 'give_back', noted)
            assert turn
        assert seen
        assert not any(seen)


def test_a_hand_over_waits_for_the_body(store: Store) -> None:
    """Requested to give the place up, the turn is over at once, and the next begins once the body has ended."""
    with store.job('a') as a, store.job('b') as b:
        a.register_task_lock('singleton:x', 'a')
        for turn in a.singleton('x'):
            fence = turn.fence
            assert fence == a.fence('singleton:x')
            a.register_task_lock('singleton:x', 'b')
            wait_until(lambda: not turn, 'the turn is over')  # noqa: B023 - called here
            assert not turn.wait(60)
            assert not b.can_claim_task('singleton:x')
            wait_until(lambda: 'b' in (pin.target for pin in b._session.read_assignment().pins.values()), 'it is asked for')
            with b.singleton('x') as other:
                assert not other
            break
        wait_until(lambda: b.can_claim_task('singleton:x'), 'b has it')
        with b.singleton('x') as other:
            assert other
            assert other.fence > fence


def test_a_turn_that_is_over_stays_over(store: Store) -> None:
    """Also if the place came back before anybody looked: the fence has risen."""
    with store.job('a') as job, job.singleton('x') as turn:
        assert turn
        store.evict('a')
        wait_until(lambda: job.can_claim_task('singleton:x') and job.fence('singleton:x') > turn.fence, 'the node is back')
        assert not turn
        with job.singleton('x') as second:
            assert not second  # the body above has not ended
    assert not turn


def test_no_lease_no_turn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn ends with the lease, and one that was seen to be over does not go on with it."""
    with store.job('a') as job, job.singleton('x') as turn:
        lease = job._session.runtime.lease  # type: ignore[union-attr]
        assert turn
        with monkeypatch.context() as context:
            context.setattr(lease, 'may_claim', lambda *_: False)
            assert not turn
        assert job.can_claim_task('singleton:x')
        assert not turn


def test_one_worker_of_a_process(store: Store) -> None:
    """Of two threads one holds the place, and a loop within a loop does not."""
    with store.job('a') as job:
        holders = [Holder(job), Holder(job)]
        wait_until(lambda: any(holder.is_in for holder in holders), 'one holds it')
        with job.singleton('x') as turn:
            assert not turn
        with job.singleton('y') as turn:
            assert turn
            with job.singleton('y') as inner:
                assert not inner
            assert list(job.claim(['singleton:y', 'z'])) == ['z']
            assert turn
        assert sum(holder.is_in for holder in holders) == 1
    for holder in holders:
        holder.join()


def test_a_loop_waits_for_another_worker_of_its_node(store: Store) -> None:
    """The node owns the place, and this worker does not hold it: a body that tests nothing would run beside the other's."""
    turns = list[object]()
    with store.job('a') as job, job.singleton('x'):
        loop = threading.Thread(target=lambda: turns.extend(job.singleton('x')))
        loop.start()
        wait_for_progress(job, 3)
        assert turns == []
        job._session.stop(SessionEvent.STOP)
        loop.join(DEADLINE_SEC)
    assert not loop.is_alive()
    assert turns == []


def test_the_place_is_free_after_each_body(store: Store) -> None:
    """However it ends; and the same object can be entered again, though not twice at once."""
    with store.job('a') as job:
        lease = job._session.runtime.lease  # type: ignore[union-attr]
        place = job.singleton('x')
        for _ in range(2):
            with pytest.raises(KeyError), place as turn:
                assert turn
                assert 'singleton:x' in in_flight(lease)
                with pytest.raises(JobsyncError, match='another one'):
                    place.__enter__()
                raise KeyError
        for _ in job.singleton('x'):
            break
        with pytest.raises(KeyError):
            for _ in job.singleton('x'):
                raise KeyError
        assert lease.in_flight == {}
        assert store.claims == []


def test_a_loop_before_the_block_is_refused(store: Store) -> None:
    """As other loops are, on an event loop too: it would wait for a block that never begins. So is one of a ``lock_provider``."""
    with pytest.raises(JobsyncError, match='outside its with block'):
        next(iter(store.job('a').singleton('x')))

    async def loop() -> None:
        with pytest.raises(JobsyncError, match='outside its with block'):
            await asyncio.wait_for(anext(aiter(store.async_job('a').singleton('x'))), DEADLINE_SEC)

    asyncio.run(loop())
    with (
        pytest.raises(JobsyncError, match='is still entering'),
        store.job('a', lock_provider=lambda job: next(iter(job.singleton('x')))),
    ):
        pass


def test_a_turn_before_the_block_is_refused(store: Store) -> None:
    """It could not last: the place may be any node's."""
    job = store.job('a')
    place = job.singleton('x')
    with pytest.raises(JobsyncError, match='outside its with block'):
        place.__enter__()
    with job, place as turn:
        assert turn


def test_a_loop_ends_with_the_job(store: Store) -> None:
    """Leaving waits for the body of another thread, which sees that its turn is over; later loops have no turn."""
    with store.job('a') as job:
        holder = Holder(job)
        wait_until(lambda: holder.is_in, 'it holds the place')
    holder.join()
    assert holder.turns == 1
    assert list(job.singleton('x')) == []


def test_a_loop_in_the_thread_that_is_to_leave_the_block(store: Store) -> None:
    """It ends once the node is to leave, as a signal's handler has it: the node cannot have left before the loop has ended."""
    turns = 0
    with store.job('a') as job:
        for turn in job.singleton('x'):
            assert turn
            turns += 1
            job._session.stop(SessionEvent.STOP)
    assert turns == 1


def test_a_turn_that_never_began_has_no_fence(store: Store) -> None:
    """So too where this very node owns the place, and another worker of it has the turn."""
    with store.job('a') as job, job.singleton('x') as first, job.singleton('x') as second:
        assert first
        assert first.fence > 0
        assert not second
        with pytest.raises(NotOwned, match='does not hold this place'):
            second.fence  # noqa: B018 - it raises


def blind_block(job: Job) -> None:
    with job.singleton('x'):
        pass


def block_that_looks(job: Job) -> None:
    with job.singleton('x') as turn:
        assert not turn


def block_that_takes_the_fence(job: Job) -> None:
    with job.singleton('x') as turn, pytest.raises(NotOwned):
        turn.fence  # noqa: B018 - it raises


def block_that_raises(job: Job) -> None:
    with pytest.raises(ZeroDivisionError), job.singleton('x'):
        raise ZeroDivisionError


@pytest.mark.parametrize('block', [block_that_looks, block_that_takes_the_fence, block_that_raises])
def test_a_block_that_sees_that_it_has_no_turn(
    store: Store, block: Callable[[Job], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It needs no warning."""
    with store.job('a') as job:
        job.register_task_lock('singleton:x', 'another')
        wait_until(lambda: not job.can_claim_task('singleton:x'), 'the lock takes the place away')
        block(job)
    assert 'runs on each node' not in caplog.text


def test_a_block_whose_body_runs_without_the_place(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A warning says so, once: the body never saw that its turn is false, so it runs on each node."""
    with store.job('a') as job:
        blind_block(job)  # on the node that holds the place
        assert not job._task_log.blind_places
        job.register_task_lock('singleton:x', 'another')
        wait_until(lambda: not job.can_claim_task('singleton:x'), 'the lock takes the place away')
        blind_block(job)
        blind_block(job)
    assert caplog.text.count('runs on each node') == 1


def test_a_block_on_an_event_loop_whose_body_runs_without_the_place(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The warning is the same."""

    async def run() -> None:
        async with store.async_job('a') as job:
            await job.register_task_lock('singleton:x', 'another')
            while job.can_claim_task('singleton:x'):
                await asyncio.sleep(0.01)
            async with job.singleton('x'):
                pass

    asyncio.run(run())
    assert caplog.text.count('runs on each node') == 1


def test_without_coordination() -> None:
    """There is one node, so the first worker holds the place."""
    with Job('a', coordination_config=CoordinationConfig(enabled=False)) as job:
        with job.singleton('x') as turn, job.singleton('x') as other:
            assert turn.wait(0.01)
            assert not other
            with pytest.raises(NotOwned, match='no cluster'):
                turn.fence  # noqa: B018 - it raises
        for turn in job.singleton('x'):
            job.__exit__(None, None, None)
            assert not turn
    with job.singleton('x') as turn:
        assert not turn
    with pytest.raises(JobsyncError, match='outside'), Job('a', coordination_config=job._config).singleton('x'):
        pass


def test_a_place_that_is_to_be_given_up_has_its_fence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker may write until the body ends, as with a task in flight."""
    with store.job('a') as job, job.singleton('x') as turn:
        assert job._session.runtime is not None
        monkeypatch.setattr(type(job._session.runtime.lease.ownership), 'claims', lambda *_: False)
        assert job.fence('singleton:x') == turn.fence
        with pytest.raises(NotOwned):
            job.fence('singleton:y')


@pytest.mark.parametrize('name', ['', None, 5, 'a\0b', 'x' * 201])
def test_what_is_no_name(name: object) -> None:
    """It is refused at once."""
    job = Job('a', coordination_config=CoordinationConfig(enabled=False))
    with pytest.raises(ConfigError, match='name is'):
        job.singleton(name)  # type: ignore[arg-type]


@pytest.mark.parametrize('seconds', ['5', dt.timedelta(seconds=5), True])
def test_what_is_no_wait(seconds: Any) -> None:
    """It is refused by name, also on an event loop."""

    async def main() -> None:
        async with AsyncJob('a', coordination_config=CoordinationConfig(enabled=False)) as job, job.singleton('x') as turn:
            await turn.wait(seconds)

    with Job('a', coordination_config=CoordinationConfig(enabled=False)) as job, job.singleton('x') as turn:
        with pytest.raises(ConfigError, match='seconds is'):
            turn.wait(seconds)
        assert turn.wait(-1)
    with pytest.raises(ConfigError, match='seconds is'):
        asyncio.run(main())


# --- on an event loop ---------------------------------------------------------------------------------------------------------


async def _hold(job: AsyncJob, took: list[str]) -> None:
    async for turn in job.singleton('x'):
        took.append(job.node_name)
        await turn.wait()


def test_turns_on_an_event_loop(store: Store) -> None:
    """One of two asyncio tasks of one node holds the place; when it is cancelled, the other one gets it."""

    async def main() -> None:
        took: list[str] = []
        async with store.async_job('a') as job:
            tasks = [asyncio.create_task(_hold(job, took)) for _ in range(2)]
            while not took:
                await asyncio.sleep(0.01)
            assert took == ['a']
            async with job.singleton('x') as turn:
                assert not turn
            tasks[0].cancel()
            while len(took) < 2:
                await asyncio.sleep(0.01)
            async for turn in job.singleton('y'):
                assert turn
                assert await turn.wait(0.01)
                break
            others = asyncio.create_task(asyncio.sleep(0))
            async for _ in job.singleton('y'):  # whose body awaits nothing
                if others.done():
                    break
            async with job.singleton('y') as turn, asyncio.timeout(DEADLINE_SEC):
                assert turn
                await job.__aexit__(None, None, None)  # does not wait for the task that leaves
                assert not turn
        await asyncio.gather(*tasks, return_exceptions=True)
        assert took == ['a', 'a']

    asyncio.run(asyncio.wait_for(main(), DEADLINE_SEC))


def test_the_wrong_form_is_refused() -> None:
    """The error names the right one."""

    async def main() -> None:
        async with AsyncJob('a', coordination_config=CoordinationConfig(enabled=False)) as job:
            place = job.singleton('x')
            with pytest.raises(JobsyncError, match='async with'), place:  # type: ignore[attr-defined]
                pass
            with pytest.raises(JobsyncError, match='async for'):
                iter(place)  # type: ignore[call-overload]
            async with place:
                with pytest.raises(JobsyncError, match='another one'):
                    await place.__aenter__()

    asyncio.run(main())


def test_a_fork_has_no_turn(store: Store) -> None:
    """In a child process a singleton is refused, and one from before the fork as well; the parent's turn is not its own."""
    with store.job('a') as job, job.singleton('y') as parents:
        before = job.singleton('x')
        pid = job._session._pid
        job._session._pid = -1
        is_held_in_child = parents.holds_place()
        with pytest.raises(WrongProcess):
            job.singleton('x')
        with pytest.raises(WrongProcess):
            before.__enter__()
        job._session._pid = pid
        assert (is_held_in_child, parents.holds_place()) == (False, True)
        with before as turn:
            assert turn
