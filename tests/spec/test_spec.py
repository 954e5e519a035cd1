"""The specification in ``spec``: SPIN verifies it, and refuses it without any one of its rules; its words are the protocol's."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.simulation import broken_rules
from tests.support.timings import DEADLINE_SEC

ROOT = Path(__file__).parents[2]
MODEL, MODULE = ROOT / 'spec/protocol.pml', ROOT / 'spec/protocol.tla'
PAGE = ROOT / 'docs/contribute/specification.md'

NAMES = ('FIRST_RUN=1', 'LAST_RUN=2')
"""The two runs of one name, alone."""

WORLDS = {
    'two names': ('DEATHS=1', 'DELETIONS=1', 'SLOW_TICKS=1', 'RESTORES=1'),
    'two runs of a name': (*NAMES, 'DEATHS=1', 'DELETIONS=1', 'SLOW_TICKS=1'),
    'a pin': ('PIN=1',),
    'a leave': ('LEAVES=1',),
}
DAILY = {'two names', 'a leave'}
LARGE_WORLDS = {
    'three runs': ('LAST_RUN=2', 'DEATHS=1'),
    'three ticks': ('TIMEOUT=3', 'DEATHS=1', 'DELETIONS=1', 'SLOW_TICKS=1'),
    'a leave and more': ('LEAVES=1', 'DEATHS=1', 'DELETIONS=1', 'SLOW_TICKS=1'),
    'a pin, a death, a slow clock': ('PIN=1', 'DEATHS=1', 'SLOW_TICKS=1'),
}

BROKEN: dict[str, tuple[str, ...]] = {
    'R1_LEASE_NEVER_ENDS': (),
    'R1_LEASE_FROM_THE_ANSWER': (),
    'R1_NO_MARGIN': ('SLOW_TICKS=1',),
    'R2_BY_THE_CLOCK_OF_THE_STORE': (),
    'R3_NO_ACKNOWLEDGEMENT': (),
    'R3_KEEPS_WHAT_IT_GIVES_UP': (),
    'R3_EVERY_VERSION_ACKNOWLEDGED': (),
    'R3_REQUESTS_OUTLIVE_A_PIN': ('PIN=1',),
    'R3_CLAIMS_UNTIL_IT_HAS_LEFT': ('LEAVES=1',),
    'R5_VERSION_NOT_COMPARED': (),
    'R5_EVICTION_NOT_COMPARED': (),
    'R5_ABSENT_IS_LEFT': ('DELETIONS=1',),
    'R5_NAME_OWNS': (*NAMES, 'DELETIONS=1'),
    'R6_TAKES_NAMES_AT_ONCE': NAMES,
    'R7_PINNED_TASKS_BY_HASH': ('PIN=1',),
    'R7_FIRST_OWNER': ('PIN=1',),
    'R7_UNPIN_AT_ONCE': ('PIN=1',),
    'R8_SIGNS_IGNORED': ('RESTORES=1',),
    'R8_FIRST_COMMIT_AT_ONCE': ('RESTORES=1',),
    'KNOWN_DEATHS_WITHOUT_PROOF': (),
    'KNOWN_DEATHS_OF_NAMES': ('LAST_RUN=2', 'DEATHS=1'),
}
"""The negative controls, each with the world in which it shows."""

OF_THE_MODEL = {'R1_NO_MARGIN', 'R3_EVERY_VERSION_ACKNOWLEDGED'}
"""Controls that are no broken rule of the simulation."""

REACHED: dict[str, tuple[str, ...]] = {
    'CLAIMS(0)': (),
    'CLAIMS(0) && deletions': ('DELETIONS=1',),
    'CLAIMS(2) && deaths': (*NAMES, 'DEATHS=1'),
    'CLAIMS(0) && restores && !gone_back': ('RESTORES=1',),
    'CLAIMS(0) && phase[1] == leaving && JOINED(1)': ('LEAVES=1',),
    'CLAIMS(0) && pinned && owner[0] == 1': ('PIN=1',),
    'acked[0] && owner[0] == 1 && !current[1]': (),
}
"""What happens in a world: without these the model could hold because nothing ever changes hands."""


class Verdict(NamedTuple):
    """What SPIN has found."""

    holds: bool
    states: int
    steps: int
    """How many steps lead to the violation."""


@pytest.fixture
def spin(request: pytest.FixtureRequest) -> None:
    """Debian's SPIN, and gcc, which compiles its verifiers. Absent, they are missed with ``--full`` and skipped otherwise."""
    absent = [program for program in ('spin', 'gcc') if shutil.which(program) is None]
    if absent and not request.config.getoption('full'):
        pytest.skip(f'the specification is not verified: there is no program {" or ".join(absent)} here')
    assert not absent, f'the specification is verified by SPIN: install the programs {" and ".join(absent)}'


def verify(folder: Path, flags: tuple[str, ...], *, depth: int = 0) -> Verdict:
    """Visit every state of the model until P1 is violated: the nearest first, or down to a depth."""
    search = ('-O2',) if depth else ('-O0', '-DBFS')
    run = partial(subprocess.run, cwd=folder, check=True, text=True, capture_output=True, timeout=10 * DEADLINE_SEC)
    run(['spin', *(f'-D{flag}' for flag in flags), '-a', str(MODEL)])
    run(['gcc', *search, '-DSAFETY', '-DNOREDUCE', '-DNOCOMP', '-w', '-o', 'pan', 'pan.c'])
    report = run(['./pan', f'-m{depth}' if depth else '-w18']).stdout  # the nearest states need no larger table
    states, errors = re.search(r'(\d+) states, stored', report), re.search(r'errors: (\d+)', report)
    assert states, report
    assert errors, report
    assert errors[1] != '0' or not re.search('not completed|too small|memory bound', report), report
    steps = re.search(r'\(at depth (\d+)\)', report)
    return Verdict(errors[1] == '0', int(states[1]), int(steps[1]) if steps else 0)


@pytest.mark.slow
@pytest.mark.usefixtures('spin')
@pytest.mark.parametrize('world', [pytest.param(world, marks=() if world in DAILY else pytest.mark.full) for world in WORLDS])
def test_one_owner(world: str, tmp_path: Path) -> None:
    """In every state of the small worlds at most one run claims the task, and the page says how many states there are."""
    found = verify(tmp_path, WORLDS[world], depth=1_000_000)
    assert found.holds
    assert f'{found.states:,}' in PAGE.read_text(), f'{found.states:,} states'


@pytest.mark.full
@pytest.mark.usefixtures('spin')
@pytest.mark.parametrize('world', LARGE_WORLDS)
def test_one_owner_in_larger_worlds(world: str, tmp_path: Path) -> None:
    """In every state of the larger worlds at most one run claims the task."""
    assert verify(tmp_path, LARGE_WORLDS[world], depth=8_000_000).holds


@pytest.mark.slow
@pytest.mark.usefixtures('spin')
@pytest.mark.parametrize('flag', BROKEN)
def test_no_rule_is_idle(flag: str, tmp_path: Path) -> None:
    """Without the rule two runs claim the task, and the page says after how many steps."""
    found = verify(tmp_path, (flag, *BROKEN[flag]))
    assert not found.holds
    assert f'| `{flag}` | {found.steps} |' in PAGE.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures('spin')
@pytest.mark.parametrize('state', REACHED)
def test_the_worlds_are_not_empty(state: str, tmp_path: Path) -> None:
    """The state in which the task has changed hands is reached."""
    assert not verify(tmp_path, (f"P1='!({state})'", *REACHED[state])).holds


def test_every_rule_of_the_model_has_a_control() -> None:
    """Each flag of the model is a negative control, and a broken rule of the simulation unless the model alone has it."""
    flags = set(re.findall(r'BROKEN\(((?:R\d|KNOWN)\w+)\)', MODEL.read_text()))
    assert flags == BROKEN.keys()
    assert {flag for flag in flags if not hasattr(broken_rules, flag.lower())} == OF_THE_MODEL


@pytest.mark.parametrize('path', [MODEL, MODULE], ids=lambda path: path.name)
def test_its_titles_are_those_of_the_protocol_page(path: Path) -> None:
    """Each title between dashes is a heading of the protocol's page, and the specification stays short enough to read."""
    text = path.read_text()
    headings = re.findall(r'(?m)^## (.+)$', (ROOT / 'docs/protocol.md').read_text())
    titles = re.findall(r'(?m)^(?:/\* ---|---- \(\*) (.+?) (?:--- \*/|\*\) ----)$', text)
    assert len(titles) >= 7
    assert set(titles) <= set(headings)
    assert text.count('\n') <= 250


def test_its_rules_are_those_of_the_protocol() -> None:
    """Each rule that the module names is one of the map of the code, whose rules the protocol's page explains."""
    named = set(re.findall(r'\bR\d\b', MODULE.read_text()))
    assert named == {'R1', 'R2', 'R3', 'R4', 'R5', 'R6', 'R7', 'R8'}
    assert named <= set(re.findall(r'\bR\d\b', PAGE.read_text()))
