"""The virtual environments of the rivals: one for each, made from PyPI when it is first asked for.

    python -m benchmarks.libraries.environments            make all of them, and say what each has

They are kept in the folder that ``JOBSYNC_BENCH_ENVS`` names, else in the user's cache, and made anew when a pin or the Python
changes. An environment that cannot be made is a ``LibraryUnavailable``, which says why in one line: a benchmark goes on without
that rival, and its report says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ['PINS', 'LibraryUnavailable', 'folder', 'packages_of', 'python_of']

PINS: Mapping[str, tuple[str, ...]] = {
    'peer': ('jobsync==1.3.14', 'psycopg[binary]==3.3.9', 'SQLAlchemy==2.1.9'),
    'tooz': ('tooz[redis,etcd3gw]==9.1.0', 'redis==8.1.0', 'etcd3gw==2.7.0'),
    'skip-locked': ('psycopg[binary]==3.3.9',),
    'procrastinate': ('procrastinate==3.10.0', 'psycopg[binary]==3.3.9'),
    'uhashring': ('uhashring==2.5',),
    'rendezvous': ('clandestined==1.1.0',),
}
"""The distributions of each environment. The measured libraries are pinned, their dependencies are not."""

_MADE = 'made-of.json'
_INSTALL_SEC = 600


class LibraryUnavailable(Exception):
    """An environment cannot be made. The message has its name and the reason."""

    def __init__(self, rival: str, reason: str) -> None:
        self.rival = rival
        super().__init__(f'rival {rival!r} cannot be installed ({", ".join(PINS[rival])}): {reason}')


def folder() -> Path:
    """Return the folder of the environments."""
    named = os.environ.get('JOBSYNC_BENCH_ENVS')
    if named:
        return Path(named).absolute()
    caches = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(caches).expanduser() / 'jobsync-bench'


def python_of(rival: str) -> Path:
    """Return the interpreter of an environment, and make the environment if needed. Raises ``LibraryUnavailable``."""
    pins = PINS[rival]
    wanted = {'pins': pins, 'python': sys.version}
    version = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:12]
    place = folder() / f'{rival}-{version}'
    python = place / 'bin' / 'python'
    # Written last: an environment without it was left unfinished.
    if not (place / _MADE).exists():
        with _alone(rival, place):
            if not (place / _MADE).exists():
                shutil.rmtree(place, ignore_errors=True)
                for command in _commands(place, python, pins):
                    _run(rival, command)
                (place / _MADE).write_text(json.dumps(wanted))
    return python


def packages_of(rival: str) -> dict[str, str]:
    """Return the distributions of an environment, with versions. Raises ``LibraryUnavailable``."""
    program = (
        'import importlib.metadata as m, json;'
        'print(json.dumps({d.metadata["Name"]: d.version for d in m.distributions() if d.metadata["Name"]}))'
    )
    found: dict[str, str] = json.loads(_run(rival, [str(python_of(rival)), '-c', program]))
    return {name: found[name] for name in sorted(found, key=str.lower)}


@contextmanager
def _alone(rival: str, place: Path) -> Iterator[None]:
    """Let one process make an environment while others that need it wait."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = place.with_name(place.name + '.lock').open('w')
    except OSError as error:
        raise LibraryUnavailable(rival, str(error)) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _commands(place: Path, python: Path, pins: Sequence[str]) -> list[list[str]]:
    """Return the commands that make an environment: with uv where it works, because it is faster, otherwise with venv and pip."""
    uv = shutil.which('uv')
    if uv and subprocess.run([uv, '--version'], capture_output=True, check=False).returncode == 0:
        return [
            [uv, 'venv', '--quiet', '--no-project', '--python', sys.executable, str(place)],
            [uv, 'pip', 'install', '--quiet', '--python', str(python), *pins],
        ]
    install = ['install', '--quiet', '--disable-pip-version-check', *pins]
    if importlib.util.find_spec('pip'):  # then it need not be installed into the environment, which takes most of the time
        return [
            [sys.executable, '-m', 'venv', '--without-pip', str(place)],
            [sys.executable, '-m', 'pip', '--python', str(python), *install],
        ]
    return [[sys.executable, '-m', 'venv', str(place)], [str(python), '-m', 'pip', *install]]


def _run(rival: str, command: Sequence[str]) -> str:
    # A PYTHONPATH would put what is installed here into the rival's environment; VIRTUAL_ENV confuses uv.
    clean = {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV')}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_SEC, env=clean)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LibraryUnavailable(rival, str(error)) from error
    if done.returncode:
        told = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise LibraryUnavailable(rival, f'{" ".join(command[:3])} … ended with status {done.returncode}: {" ".join(told[-3:])}')
    return done.stdout


def main() -> None:
    failed = 0
    for rival, pins in PINS.items():
        try:
            packages = packages_of(rival)
        except LibraryUnavailable as error:
            failed += 1
            print(error, flush=True)
        else:
            names = [pin.partition('==')[0].partition('[')[0] for pin in pins]
            print(rival, *(f'{name} {packages[name]}' for name in names), python_of(rival), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
