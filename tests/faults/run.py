"""One run: a store, a cluster, faults from a seed, and what the logs prove afterwards."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import attrs
from benchmarks.rolling_worker import ROUND_SEC, tasks_of
from tests.faults.catalogue import FAULTS
from tests.faults.cluster import TIMEOUT_SEC, Scene, Stage
from tests.faults.fault import Fault, Happening, draw, play
from tests.faults.findings import Log, answered_twice, gaps, last_change, missed, moves, owned_twice, worked_twice
from tests.faults.places import open_place
from tests.faults.trace import Verdict, ends_trace, judged

from jobsync.testing.worker_log import now

__all__ = ['SETTLE_SEC', 'Part', 'Report', 'judge', 'run', 'stage_of']

SETTLE_SEC = 60.0
OPEN_SEC = 10.0
"""Tasks of the last seconds of a run may be unfinished."""
PUSH_SEC, SLACK_SEC = 1.0, 2.0
DETAILS = 40
Say = Callable[[str], None]


@attrs.frozen
class Part:
    """What one fault, or several at once, did."""

    faults: tuple[str, ...]
    lasted_sec: float
    gap_sec: float
    """The longest time that a token had no owner."""
    bound_sec: float | None
    """What the promise allows; None without a promise, or where faults were combined."""
    unowned: float
    """Token-seconds without an owner."""
    settle_sec: float
    """From the end of the fault to the last change of an owner."""
    moved: int
    settled: bool

    @property
    def in_time(self) -> bool:
        """Whether the promise's bound was kept."""
        return self.bound_sec is None or self.gap_sec <= self.bound_sec


@attrs.frozen
class Report:
    """The outcome of a run."""

    store: str
    seed: int
    stage: Stage
    seconds: float
    parts: tuple[Part, ...]
    owned_twice: float
    """Token-seconds owned twice."""
    answered_twice: int
    """Readings of ``can_claim_task`` that were True while another process owned the token."""
    worked_twice: int
    """Tasks that two processes worked on at once, each with a lease."""
    late: int
    """Tasks that were begun elsewhere while a process went on whose lease was over: what a fence refuses."""
    tasks: int
    missed: int
    deaths: int
    """Workers and servers that ended by themselves."""
    details: tuple[str, ...] = ()
    trace: Verdict = attrs.field(factory=Verdict)
    """What the specification says of the events of all workers, up to the first fault that a trace does not have."""

    @property
    def is_sound(self) -> bool:
        """Whether P1 held."""
        return not (self.owned_twice or self.answered_twice or self.worked_twice)

    @property
    def is_right(self) -> bool:
        """Whether P1 held, and the specification accepts what the workers did, and no mutation of that."""
        return self.is_sound and self.trace.is_right

    def append_to(self, path: Path) -> None:
        """Append a line to a file of results, from which the page is made."""
        row = {'at': dt.datetime.now(dt.UTC).isoformat(timespec='seconds'), **attrs.asdict(self)}
        with path.open('a') as file:
            file.write(json.dumps(row) + '\n')


def stage_of(random: Random) -> Stage:
    """Draw the cluster of a run: mostly the usual one."""
    kind = random.choices(('claim', 'batch', 'items', 'singleton', 'every'), (6, 1, 2, 1, 1))[0]
    shape = random.choices(
        (Stage(), Stage(tokens=3, workers=5), Stage(timeouts=(TIMEOUT_SEC, 2 * TIMEOUT_SEC)), Stage(workers=6, tokens=240)),
        (5, 1, 2, 1),
    )[0]
    return attrs.evolve(shape, kind=kind)


def run(
    store: str,
    seed: int,
    seconds: float,
    *,
    stage: Stage | None = None,
    names: Iterable[str] = (),
    most: int = 3,
    in_turn: bool = False,
    settle_sec: float = SETTLE_SEC,
    environment: Mapping[str, str] | None = None,
    say: Say = lambda _: None,
) -> Report:
    """Play faults for about so many seconds, and judge the logs.

    Args:
        store: a name of ``PLACES``.
        seed: decides the cluster, the faults, and all that is random in them.
        seconds: no fault begins later than this.
        stage: the cluster; drawn unless it is given.
        names: the faults to draw from; all that the store has unless some are given.
        most: how many faults may be combined. Half of the draws are of one alone.
        in_turn: play every fault once, alone, in the order of the table, however long that takes.
        settle_sec: how long to wait after each draw until the cluster is whole.
        environment: more environment variables of the workers.
        say: takes a line for each fault.
    """
    random, names = Random(f'{store} {seed}'), tuple(names)
    for name in names:
        if store not in FAULTS[name].stores:
            raise ValueError(f'{name!r} is no fault of {store}')
    stage = stage or stage_of(random)
    happenings: list[Happening] = []
    deaths: list[str] = []
    with open_place(store, stage.workers) as place, Scene(store, place, stage, seed, environment) as scene:
        scene.form()
        first = now()
        say(f'{store} seed {seed}: {stage.workers} workers, {stage.tokens} tokens, work {stage.kind}')
        for faults in in_turns(store, names) if in_turn else draws(store, random, names, most):
            if happenings and not in_turn and now() > first + seconds:
                break
            say(f'{store} seed {seed}: at {now() - first:.1f} {" + ".join(each.name for each in faults)}')
            happenings.append(play(scene, faults, settle_sec))
            for death in mend(scene):
                say(f'{store} seed {seed}: ended by itself: {death}')
                deaths.append(death)
            if not happenings[-1].settled:
                say(f'{store} seed {seed}: not settled after {settle_sec:.0f} s: {state(scene)}')
            time.sleep(random.uniform(0.0, 1.0))
        tasks, until = due_tasks(scene, first), now() + settle_sec
        while missed(scene.logs(now()), tasks) and now() < until:  # those of an outage are done by whoever sees them again
            time.sleep(1.0)
        return attrs.evolve(judge(scene, seed, happenings, first, deaths, tasks), trace=judge_trace(scene, happenings))


def in_turns(store: str, names: Sequence[str]) -> Iterator[tuple[Fault, ...]]:
    """Yield each fault of a store, or of those named, alone."""
    for fault in FAULTS.values():
        if store in fault.stores and (not names or fault.name in names):
            yield (fault,)


def draws(store: str, random: Random, names: Sequence[str], most: int) -> Iterator[tuple[Fault, ...]]:
    """Yield draws without end: half of them of one fault, others of several at once."""
    while True:
        yield draw(store, random, names, 1 if random.random() < 0.5 else random.randint(1, most))


def mend(scene: Scene) -> list[str]:
    """Start again workers and servers that have ended by themselves; return what they said last."""
    found = scene.place.start_ended()
    for worker in list(scene.workers):
        if not worker.is_running:
            found.append(f'{worker.run} with status {worker.process.returncode}: {worker.words}')
            worker.kill()
            scene.replace(worker)
    return found


def due_tasks(scene: Scene, first: float) -> list[str]:
    """Return the tasks that came since the first fault, and long enough ago to be done."""
    if scene.stage.kind != 'claim':
        return []
    rounds = range(int((first - scene.origin) / ROUND_SEC) + 1, int((now() - OPEN_SEC - scene.origin) / ROUND_SEC))
    return [task for number in rounds for task in tasks_of(number, scene.stage.tasks)]


def judge(
    scene: Scene, seed: int, happenings: Sequence[Happening], first: float, deaths: Sequence[str], tasks: Sequence[str]
) -> Report:
    """Compute the figures from the logs. The ``tasks`` are those that should have been done."""
    judged = now()
    logs = scene.logs(judged)
    twice, answers, works = owned_twice(logs), answered_twice(logs), worked_twice(logs)
    details = [
        *(f'{each.thing} owned by {each.nodes} for {each.seconds:.4f} s from {each.begin - first:.3f}' for each in twice),
        *(
            f'{each.thing} owned by {each.nodes[0]}, and {each.nodes[1]} answered True at {each.begin - first:.3f}'
            for each in answers
        ),
        *(f'{each.overlap} done twice at once, {each.overlap.begin - first:.3f}' for each in works if not each.is_late),
    ]
    return Report(
        store=scene.name,
        seed=seed,
        stage=scene.stage,
        seconds=judged - first,
        parts=tuple(part_of(scene, each, logs) for each in happenings),
        owned_twice=sum(each.seconds for each in twice),
        answered_twice=len(answers),
        worked_twice=sum(not each.is_late for each in works),
        late=sum(each.is_late for each in works),
        tasks=len(tasks),
        missed=len(missed(logs, tasks)),
        deaths=len(deaths),
        details=(*details[:DETAILS], *deaths),
    )


def judge_trace(scene: Scene, happenings: Sequence[Happening]) -> Verdict:
    """Compare what the workers have written with the specification."""
    ends = [each.begin for each in happenings if any(ends_trace(scene.name, fault.name) for fault in each.faults)]
    until = min([now(), *ends])  # before the logs are read, one after the other
    return judged(scene.beginning, scene.occurrences(), until) if scene.stage.traced else Verdict()


def bound_of(fault: Fault, scene: Scene, happening: Happening) -> float | None:
    """Return the longest time without an owner that a promise allows for a fault that happened alone."""
    lasted = happening.end - happening.begin
    match fault.promise:
        case 'P2':
            return PUSH_SEC + (0 if scene.place.push else scene.stage.interval_sec)
        case 'P3':
            return scene.longest_timeout + SLACK_SEC
        case 'P4':
            return lasted + scene.stage.interval_sec + SLACK_SEC
        case 'R8':
            return lasted + scene.longest_timeout + SLACK_SEC
    return None


def part_of(scene: Scene, happening: Happening, logs: Sequence[Log]) -> Part:
    """Judge one fault."""
    tokens = range(scene.stage.tokens)
    times = [stop - start for each in gaps(logs, tokens, happening.begin, happening.quiet_at).values() for start, stop in each]
    return Part(
        faults=tuple(each.name for each in happening.faults),
        lasted_sec=happening.end - happening.begin,
        gap_sec=max(times, default=0.0),
        bound_sec=bound_of(happening.faults[0], scene, happening) if len(happening.faults) == 1 else None,
        unowned=sum(times),
        settle_sec=last_change(logs, tokens, happening.end, happening.quiet_at) - happening.end,
        moved=moves(logs, happening.begin, happening.quiet_at),
        settled=happening.settled,
    )


def state(scene: Scene) -> str:
    """Say in one line how the workers are."""
    moment = now()
    each = (
        f'{worker.run} {"runs" if worker.is_running else f"ended {worker.process.returncode}"}, {worker.tokens} tokens '
        f'and {worker.loads[1] - worker.tokens} pins for {worker.owns_until - moment:.1f} s'
        for worker in scene.workers
    )
    return '; '.join(each)
