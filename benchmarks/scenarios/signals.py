"""SIGTERM at random moments."""

from __future__ import annotations

from benchmarks import signals
from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO']


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    tallies = signals.play(bench.place, bench.store.url, 14 if bench.quick else 98)
    for (place, handler), tally in tallies.items():
        if not tally.runs:
            continue
        case = f'{place}, {handler}'
        bench.record('not ended well', case, [float(tally.runs - tally.ended_well)])
        bench.record('tokens left behind', case, [float(tally.runs - tally.back)])
        bench.record('to the end', case, [tally.longest_sec])
        bench.record('with errors', case, [float(tally.noise)])


SCENARIO = Scenario(
    name='signals',
    title='SIGTERM at random moments',
    means="""
        Whether a worker that receives SIGTERM ends in time and gives its tokens back, whatever it is doing: entering,
        beginning tasks, auditing, running a callback, in a claim loop or leaving. With the handler of the user's guide
        ("guide") and with handle_signals ("own").
    """,
    bounds="""
        Tasks in flight are finished first, for at most shutdown_timeout_sec, which is two seconds here.
    """,
    figures=(
        Figure('not ended well', Unit.COUNT, 'Processes that did not end with status 0 within 20 s.'),
        Figure('tokens left behind', Unit.COUNT, 'Processes that left a token or a record behind.'),
        Figure('to the end', Unit.SECONDS, 'From the signal to the end of the process; the longest.'),
        Figure('with errors', Unit.COUNT, 'Processes that wrote a traceback or an error.'),
    ),
    play=play,
    needs=Needs.PROCESSES,
    by_default=False,
    targets=(
        Target('SIGTERM: processes that did not end well', Pick('not ended well'), at_most=0),
        Target('SIGTERM: processes that left tokens behind', Pick('tokens left behind'), at_most=0),
    ),
)
