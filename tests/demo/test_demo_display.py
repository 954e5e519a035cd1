"""What the demo shows while it runs, and at its end."""

from __future__ import annotations

import io
import json

import attrs
from rich.console import Console

from jobsync.testing.verdict import Gap, Overlap
from jobsync_demo.display import LiveDisplay, PlainDisplay, display_for
from jobsync_demo.report import figures, print_report
from jobsync_demo.run import Outcome
from jobsync_demo.scene import Scene, WorkerRow
from jobsync_demo.verdict import Share, Verdict

ROW = WorkerRow(node='w1', pid=77, state='working', leads=True, tokens=600, handing_over=4, files=12, doing='a/[b].py')
DEAD = WorkerRow(node='w2', pid=78, state='killed', leads=False, tokens=400, handing_over=0, files=9, doing='')
SCENE = Scene(elapsed_sec=1.25, files=80, done=21, total_tokens=1000, rows=(ROW, DEAD))
GOOD = Verdict(
    files=80,
    done=80,
    done_twice=('f',),
    redone_after_kill=1,
    missed=(),
    wrong=(),
    worked_at_once=(),
    owned_at_once=(),
    gap=Gap(token=3, seconds=2.25, before='w2', after='w1'),
    widest_reading_sec=0.04,
    shares=(Share('w1', 77, files=60, most_tokens=1000, killed=False), Share('w2', 78, files=21, most_tokens=400, killed=True)),
)


def console(terminal: bool = False) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=160, height=30, force_terminal=terminal, no_color=True), out


def report_on(verdict: Verdict) -> str:
    target, out = console()
    print_report(Outcome(verdict=verdict, rebalances=(), seconds=20, seed=5, heartbeat_timeout_sec=2.5), target)
    return out.getvalue()


def test_a_terminal_gets_a_table_and_anything_else_plain_lines() -> None:
    """The display suits where it goes."""
    assert isinstance(display_for(console(terminal=True)[0]), LiveDisplay)
    assert isinstance(display_for(console()[0]), PlainDisplay)


def test_the_live_table_shows_owners_work_and_events() -> None:
    """Each worker with its tokens, files and present file, the whole progress, and what happened."""
    target, out = console(terminal=True)
    with display_for(target) as display:
        display.show(SCENE)
        display.say(2.0, 'w2 is gone')
    for text in ('21 of 80 files done', 'w1 (leader)', '600 (-4)', 'a/[b].py', 'killed', '400', '2.0 s  w2 is gone'):
        assert text in out.getvalue()


def test_plain_lines_come_once_a_second() -> None:
    """Scenes are thinned out; events are not."""
    lines: list[str] = []
    with PlainDisplay(lines.append) as display:
        for elapsed in (1.0, 1.2, 1.9, 2.1):
            display.show(attrs.evolve(SCENE, elapsed_sec=elapsed))
        display.say(2.2, 'w2 is gone')
    assert lines == [
        '  1.0 s  21/80 files; tokens: w1 600, w2 400 (killed)',
        '  2.1 s  21/80 files; tokens: w1 600, w2 400 (killed)',
        '  2.2 s  w2 is gone',
    ]


def test_many_workers_fit_on_a_line() -> None:
    """A plain line tells the workers of a kind together when there are too many to name."""
    lines: list[str] = []
    rows = (*(attrs.evolve(ROW, tokens=tokens) for tokens in range(20, 40)), DEAD)
    with PlainDisplay(lines.append) as display:
        display.show(attrs.evolve(SCENE, rows=rows))
    assert lines == ['  1.2 s  21/80 files; tokens: 20 to 39 for each of 20 working, 400 to 400 for each of 1 killed']


def test_a_good_outcome_says_so() -> None:
    """The table has every figure, and the last line the verdict."""
    text = report_on(GOOD)
    for part in ('2.25 s', '1 of them finished but not yet audited by the killed worker', 'killed', 'seed 5'):
        assert part in text
    assert 'no two processes ever had one file at once' in text.splitlines()[-1]


def test_a_bad_outcome_names_what_is_bad() -> None:
    """A clash, a missed file and a fault are each named, and the last line says that it failed."""
    clash = Overlap('a/b.py', ('w1', 'w2'), begin=1.0, end=1.5)
    bad = attrs.evolve(GOOD, done=79, missed=('c.py',), worked_at_once=(clash,), faults=('w3 ended by itself',))
    text = report_on(bad)
    for part in ('a/b.py (w1 and w2, 0.500 s)', 'c.py', 'FAULT: w3 ended by itself'):
        assert part in text
    assert text.splitlines()[-1].startswith('FAILED')


def test_figures_are_plain_data() -> None:
    """Everything in the report is in the JSON too."""
    found = json.loads(json.dumps(figures(Outcome(verdict=GOOD, rebalances=(), seconds=20, seed=5, heartbeat_timeout_sec=2.5))))
    assert found['ok'] is True
    assert (found['done'], found['done_twice'], found['longest_unowned_sec']) == (80, 1, 2.25)
    assert found['workers'][1] == {'node': 'w2', 'pid': 78, 'files': 21, 'most_tokens': 400, 'killed': True}
