"""The verdict for people (a table) and for programs (plain figures)."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobsync.testing.verdict import Overlap
from jobsync_demo.run import Outcome

__all__ = ['figures', 'print_report']

_SHOWN = 5


def figures(outcome: Outcome) -> dict[str, object]:
    """Return all figures in a form for JSON."""
    verdict = outcome.verdict
    return {
        'ok': verdict.ok,
        'seed': outcome.seed,
        'seconds': round(outcome.seconds, 1),
        'files': verdict.files,
        'done': verdict.done,
        'done_twice': len(verdict.done_twice),
        'done_twice_after_kill': verdict.redone_after_kill,
        'missed': list(verdict.missed),
        'wrong': list(verdict.wrong),
        'worked_at_once': [_overlap(each) for each in verdict.worked_at_once],
        'owned_at_once': [_overlap(each) for each in verdict.owned_at_once],
        'longest_unowned_sec': round(verdict.gap.seconds, 3) if verdict.gap else None,
        'heartbeat_timeout_sec': outcome.heartbeat_timeout_sec,
        'widest_reading_sec': round(verdict.widest_reading_sec, 3),
        'tokens_moved': outcome.tokens_moved,
        'rebalances': [{'reason': r.trigger_reason, 'tokens_moved': r.tokens_moved} for r in outcome.rebalances],
        'workers': [
            {'node': s.node, 'pid': s.pid, 'files': s.files, 'most_tokens': s.most_tokens, 'killed': s.killed}
            for s in verdict.shares
        ],
        'faults': list(verdict.faults),
        'folder': str(outcome.folder) if outcome.folder else None,
    }


def _overlap(overlap: Overlap) -> dict[str, object]:
    return {'thing': overlap.thing, 'nodes': list(overlap.nodes), 'seconds': round(overlap.seconds, 4)}


def print_report(outcome: Outcome, console: Console) -> None:
    """Print two tables and a sentence."""
    verdict = outcome.verdict
    workers = Table(title='What each worker did')
    for name in ('worker', 'pid', 'files done', 'tokens at most', ''):
        workers.add_column(name, justify='right' if name in ('pid', 'files done', 'tokens at most') else 'left')
    for share in verdict.shares:
        fate = 'killed' if share.killed else ''
        workers.add_row(share.node, str(share.pid), str(share.files), str(share.most_tokens), fate)
    console.print(workers)

    table = Table(title="What the workers' logs show", show_header=False)
    table.add_column()
    table.add_column(justify='right')
    table.add_column()
    killed = any(share.killed for share in verdict.shares)
    rows: list[tuple[str, str, str]] = [
        ('files', str(verdict.files), ''),
        ('done', str(verdict.done), 'result equal to one computed afterwards by another process'),
        ('done twice', str(len(verdict.done_twice)), _about_twice(outcome)),
        ('missed', str(len(verdict.missed)), _some(verdict.missed)),
        ('wrong result', str(len(verdict.wrong)), _some(verdict.wrong)),
        ('files worked on by two at once', str(len(verdict.worked_at_once)), _some_overlaps(verdict.worked_at_once)),
        ('tokens owned by two at once', str(len(verdict.owned_at_once)), _some_overlaps(verdict.owned_at_once)),
        (
            'longest time a token had no owner',
            f'{verdict.gap.seconds:.2f} s' if verdict.gap else '-',
            f'at most; the heartbeat timeout is {outcome.heartbeat_timeout_sec:g} s' if killed else 'at most',
        ),
        ('tokens moved', str(outcome.tokens_moved), '; '.join(_reasons(outcome))),
    ]
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    for fault in verdict.faults:
        console.print(Text(f'FAULT: {fault}'))
    if outcome.folder:
        console.print(Text(f'Logs and the table of results (results.db) are in {outcome.folder}'), soft_wrap=True)
    if verdict.ok:
        text = (
            f'Every file is done and no two processes ever had one file at once. ({outcome.seconds:.0f} s, seed {outcome.seed})'
        )
    else:
        text = f'FAILED: see above. (seed {outcome.seed})'
    console.print(Text(text, style='bold green' if verdict.ok else 'bold red'))


def _about_twice(outcome: Outcome) -> str:
    verdict = outcome.verdict
    if not verdict.done_twice:
        return ''
    return f'one after the other; {verdict.redone_after_kill} of them finished but not yet audited by the killed worker'


def _reasons(outcome: Outcome) -> list[str]:
    return [f'{rebalance.tokens_moved} {rebalance.trigger_reason}' for rebalance in outcome.rebalances]


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:_SHOWN]) + (', ...' if len(names) > _SHOWN else '')


def _some_overlaps(overlaps: Sequence[Overlap]) -> str:
    return _some([f'{o.thing} ({o.nodes[0]} and {o.nodes[1]}, {o.seconds:.3f} s)' for o in overlaps])
