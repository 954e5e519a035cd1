"""The page of incidents: the commands that it names, run as they stand there, and what it says that they print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from jobsync.cli.commands import cli

__all__ = ['INCIDENTS', 'Runbook']

PAGE = Path(__file__).parents[2] / 'docs' / 'operate' / 'incidents.md'


def _incidents() -> dict[str, list[str]]:
    """The shown commands of each incident, by its heading: blocks of lines."""
    found: dict[str, list[str]] = {}
    for part in re.split(r'^## (?=\d+\.)', PAGE.read_text(encoding='utf-8'), flags=re.MULTILINE)[1:]:
        text = part.partition('\n## ')[0]
        found[text.partition('\n')[0]] = re.findall(r'^```console\n(.*?)^```', text, flags=re.MULTILINE | re.DOTALL)
    return found


INCIDENTS = _incidents()


class Runbook:
    """An operator who follows the page on one store."""

    def __init__(self, url: str) -> None:
        self._url = url

    def follow(self, number: int, step: int) -> None:
        """Run the commands of a block, and check that each prints what the page shows: numbers may be others."""
        block = next(blocks for title, blocks in INCIDENTS.items() if title.startswith(f'{number}.'))[step]
        for part in block.split('$ jobsync ')[1:]:
            command, _, shown = part.partition('\n')
            result = CliRunner(env={'JOBSYNC_BACKEND': self._url}).invoke(cli, shlex.split(command))
            assert result.exit_code in (0, 3), (result.exception, result.output)
            printed = ' '.join(result.output.split())
            for line in shown.splitlines():
                pattern = re.escape(' '.join(line.split()))
                pattern = re.sub(r'(?<![\w-])\d+(?![\w-])', r'\\d+', pattern).replace('…', '.*')
                assert re.search(pattern, printed), f'{command}: not found: {line}\n{result.output}'
