"""The command line with any argument: a status, lines that a person can read, no traceback; and no neighbour is touched."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.bad_input.surroundings import MINE, surroundings
from tests.bad_input.values import texts
from tests.bad_input.watch import examples, within

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.cli.commands import cli
from jobsync.testing import Namespace

pytestmark = pytest.mark.filterwarnings('ignore::hypothesis.errors.HypothesisWarning')  # of a long text that is shown

LEFT_OUT = {
    'bench': 'measures for minutes',
    'conformance': 'runs a test suite; on a URL of any form: test_bad_urls',
    'demo': 'starts processes',
    'web': 'serves until Ctrl-C',
    'completion': 'reads no store',
}
"""Commands that are not called at random, with the reason."""
WAITING = {'watch', 'help', 'steer'}
"""Flags under which a command goes on until Ctrl-C, or does nothing."""

Commands = dict[tuple[str, ...], click.Command]


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif name not in LEFT_OUT:
            yield (*path, name), command


words = st.one_of(
    texts.filter(lambda text: '\0' not in text), st.sampled_from(['-', '--', '-x', '--json', '--limit', '1', 'x', 'leader'])
)
"""What can be an argument of a process: anything without a NUL. Bytes that are no text arrive as lone surrogates."""


def arguments(command: click.Command) -> st.SearchStrategy[list[str]]:
    """Return arguments for a command: some of its options, with any value, and any words."""
    found: list[st.SearchStrategy[list[str]]] = []
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.name in {'backend', 'appname', 'config', 'timeout', *WAITING}:
            continue
        name = parameter.opts[0]
        found.append(st.just([name]) if parameter.is_flag else words.map(lambda word, name=name: [f'{name}={word}']))  # type: ignore[misc]
    options = st.lists(st.one_of(found), max_size=3) if found else st.just([])
    count = sum(isinstance(parameter, click.Argument) for parameter in command.params)
    positions = st.lists(words, min_size=count, max_size=count + 1)
    return st.builds(lambda options, positions: [*chain.from_iterable(options), *positions], options, positions)


COMMANDS: Commands = dict(commands())
calls = st.sampled_from(sorted(COMMANDS)).flatmap(lambda path: st.tuples(st.just(path), arguments(COMMANDS[path])))


def test_commands(count: int) -> None:
    """Every command, on SQLite, where each call is as one of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        url = f'sqlite:///{folder}/jobs.db'
        with surroundings(url) as content:
            mine = plugins.connect(url, BackendOptions(MINE))
            try:
                Namespace(mine).populate()
            finally:
                mine.close()
            before = content()

            @examples(2 * count)
            @given(calls)
            def attempt(call: tuple[tuple[str, ...], list[str]]) -> None:
                path, words = call
                invoke(url, *path, *words)

            attempt()
            assert content() == before


def invoke(url: str, *words: str) -> None:
    """Call a command, and check what it says."""
    runner = CliRunner(env={'JOBSYNC_BACKEND': url, 'JOBSYNC_APPNAME': MINE, 'COLUMNS': '200'})
    result: Any = within(lambda: runner.invoke(cli, list(words), input=''))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2, 3), result.output
    assert 'Traceback' not in result.output


def test_other_files(count: int, tmp_path: Path) -> None:
    """A configuration file with anything in it, and any namespace."""
    path = tmp_path / 'jobsync.toml'

    @examples(count)
    @given(texts, texts)
    def attempt(text: str, appname: str) -> None:
        path.write_bytes(text.encode(errors='surrogatepass'))
        invoke('memory://bad-input', 'nodes', '--config', str(path))
        if '\0' not in appname:
            invoke('memory://bad-input', 'nodes', f'--appname={appname}')

    attempt()


def test_the_table_is_whole() -> None:
    """Each command that is left out exists."""
    assert set(LEFT_OUT) <= set(cli.list_commands(click.Context(cli)))
    assert len(COMMANDS) > 10
