"""The demo's verdict, on logs made up for it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from jobsync.testing.worker_log import Sighting, Work, WorkerLog
from jobsync_demo.files import Digest
from jobsync_demo.verdict import Verdict, judge

RIGHT = Digest(lines=1, words=2, sha256='abc')
OTHER = Digest(lines=1, words=3, sha256='abd')


def did(node: str, *works: tuple[str, float, float | None], result: Digest = RIGHT) -> WorkerLog:
    return WorkerLog(
        node,
        works=tuple(Work(node, file, begin, end, attrs.asdict(result) if end is not None else {}) for file, begin, end in works),
    )


def owned(node: str, *sightings: tuple[set[int], float, float]) -> WorkerLog:
    return WorkerLog(node, sightings=tuple(Sighting(node, frozenset(s), first, last) for s, first, last in sightings))


def verdict_on(*logs: WorkerLog, expected: Mapping[str, Digest], deaths: Mapping[str, float] | None = None) -> Verdict:
    return judge(expected, logs, deaths=deaths or {}, until=100.0)


class TestJudge:
    """What passes and what fails."""

    def test_all_done_once(self) -> None:
        """Every file done once and rightly is the one way to pass."""
        verdict = verdict_on(did('a', ('f', 1.0, 2.0)), did('b', ('g', 1.0, 2.0)), expected={'f': RIGHT, 'g': RIGHT})
        assert verdict.ok
        assert (verdict.files, verdict.done, verdict.done_twice, verdict.missed) == (2, 2, (), ())
        assert [(share.node, share.files) for share in verdict.shares] == [('a', 1), ('b', 1)]

    def test_a_missed_file_fails(self) -> None:
        """A file that nobody finished is named, begun or not."""
        verdict = verdict_on(did('a', ('f', 1.0, None)), expected={'f': RIGHT, 'g': RIGHT})
        assert not verdict.ok
        assert verdict.missed == ('f', 'g')
        assert verdict.done == 0

    def test_a_wrong_result_fails(self) -> None:
        """A result other than the one computed afterwards is not a file done."""
        verdict = verdict_on(did('a', ('f', 1.0, 2.0), result=OTHER), expected={'f': RIGHT})
        assert not verdict.ok
        assert (verdict.done, verdict.wrong) == (0, ('f',))

    def test_done_twice_is_told_and_passes(self) -> None:
        """A file finished by a worker before its death and again by its new owner is not owned twice."""
        logs = [did('a', ('f', 1.0, 2.0)), did('b', ('f', 6.0, 7.0))]
        verdict = verdict_on(*logs, expected={'f': RIGHT}, deaths={'a': 3.0})
        assert verdict.ok
        assert (verdict.done, verdict.done_twice, verdict.redone_after_kill) == (1, ('f',), 1)

    def test_done_twice_without_a_death_is_counted_apart(self) -> None:
        """Only what a killed worker finished first is explained by the kill."""
        logs = [did('a', ('f', 1.0, 2.0)), did('b', ('f', 6.0, 7.0))]
        assert verdict_on(*logs, expected={'f': RIGHT}, deaths={'b': 9.0}).redone_after_kill == 0

    def test_a_clash_fails(self) -> None:
        """All files done is not enough when two processes had one at once."""
        verdict = verdict_on(did('a', ('f', 1.0, 3.0)), did('b', ('f', 2.0, 4.0)), expected={'f': RIGHT})
        assert verdict.done == 1
        assert not verdict.ok

    def test_a_shared_token_fails(self) -> None:
        """Nor is it enough when two processes owned one token at once, even if neither worked."""
        logs = [did('a', ('f', 1.0, 3.0)), owned('b', ({1}, 0.0, 2.0)), owned('c', ({1}, 1.0, 2.0))]
        assert not verdict_on(*logs, expected={'f': RIGHT}).ok

    def test_a_fault_fails(self) -> None:
        """A process that ended by itself fails the demo though others did its work."""
        verdict = judge({'f': RIGHT}, [did('a', ('f', 1.0, 3.0))], deaths={}, until=9.0, faults=['b ended by itself'])
        assert not verdict.ok
