"""Run lint beside the tests, ``python -m tests.support.with_lint COMMAND …``: its commands have one core for a minute.

The output of lint comes after that of the tests. The status is that of the tests, or 1 if they pass and lint fails.

The tests are collected once before they run. In a fresh clone pytest rewrites and compiles each file of tests, which takes three
times as long as the rest of collecting them, and each of its processes would do it.
"""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOX = Path(__file__).parents[2] / 'tox.ini'


def lint_commands() -> list[list[str]]:
    """Return the commands of the environment ``lint``."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(TOX, encoding='utf-8')
    return [shlex.split(line) for line in config['testenv:lint']['commands'].strip().splitlines()]


def lint() -> tuple[bool, str]:
    """Run one command after the other; return whether all have passed, and what they have written."""
    passed, output = True, ''
    for command in lint_commands():
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        passed &= done.returncode == 0
        output += f'{shlex.join(command)}: status {done.returncode}\n{done.stdout}\n'
    return passed, output


def main() -> None:
    """Run both."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lint)
        subprocess.run([*sys.argv[1:], '-n', '0', '--collect-only', '-q'], stdout=subprocess.DEVNULL, check=False)
        status = subprocess.run(sys.argv[1:], check=False).returncode
        passed, output = running.result()
    sys.stdout.write(output)
    sys.exit(status or not passed)


if __name__ == '__main__':
    main()
