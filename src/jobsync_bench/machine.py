"""The machine and the library versions of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import attrs

__all__ = ['Machine', 'versions']

_LIBRARIES = ('jobsync', 'SQLAlchemy', 'psycopg', 'redis', 'etcd3', 'grpcio', 'protobuf', 'xxhash')


@attrs.frozen
class Machine:
    """The computer, without its name."""

    system: str
    processor: str
    cpus: int
    memory_gb: float
    load: float
    """The load average of the minute before the run: mostly other programs."""

    @classmethod
    def here(cls) -> Machine:
        """Return this machine."""
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
        system = f'{platform.system()} {platform.release()}'
        return cls(system, _processor(), os.cpu_count() or 1, round(memory, 1), round(os.getloadavg()[0], 2))

    def __str__(self) -> str:
        return f'{self.processor}, {self.cpus} CPUs, {self.memory_gb:.0f} GB, {self.system}, load {self.load} at the start'


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python, jobsync and the installed drivers."""
    found = {'Python': platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
