"""The listing of ``jobsync backends``: what is installed, in which versions, and what each backend declares of its store."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jobsync import plugins
from jobsync.backend import BackendInfo, Reach
from jobsync.errors import JobsyncError
from jobsync.plugins import Installed

__all__ = ['backend_row', 'info_row', 'print_backends']

PLACES = {Reach.PROCESS: 'one process', Reach.HOST: 'one host', Reach.NETWORK: 'any host'}


def backend_row(backend: Installed) -> dict[str, object]:
    """Return what there is to say of a backend, for JSON: ``declares`` has what it declares for each of its example URLs."""
    declares, error = {}, backend.error
    if error is None:
        try:
            declares = {url: info_row(plugins.declared(url)) for url in backend.examples}
        except JobsyncError as refused:
            error = str(refused)
    row = attrs.asdict(backend, filter=attrs.filters.exclude('examples'))
    return {**row, 'drivers': dict(backend.drivers), 'error': error, 'declares': declares}


def info_row(info: BackendInfo) -> dict[str, object]:
    """Return what a backend declares, for JSON, without the folder, whose name may say more than a bug report should."""
    return {**attrs.asdict(info, filter=attrs.filters.exclude('folder')), 'reach': info.reach.value}


def print_backends(console: Console, backends: Iterable[Installed]) -> None:
    """Print each backend with its distribution, and below it one line for each of its example URLs."""
    for backend in backends:
        versions = ', '.join([f'{backend.distribution} {backend.version}', *map(_driver, backend.drivers)])
        console.print(Text.assemble((backend.name, 'bold'), f'  {backend.summary}' if backend.summary else ''))
        console.print(
            Padding(Text(f'{", ".join(f"{scheme}://" for scheme in backend.schemes)}\n{versions}'), (0, 0, 0, 2), expand=False)
        )
        console.print(Padding(_declarations(backend), (0, 0, 1, 2), expand=False))


def _driver(driver: tuple[str, str | None]) -> str:
    name, version = driver
    return f'{name} {version}' if version else f'{name} (not installed)'


def _declarations(backend: Installed) -> Text | Table:
    if backend.error is not None:
        return Text(f'cannot be used: {backend.error}')
    try:
        found = [(url, plugins.declared(url)) for url in backend.examples]
    except JobsyncError as error:
        return Text(f'cannot be used: {error}')
    table = Table(box=None, padding=(0, 2, 0, 0), header_style='dim')
    for head in ('such as', 'nodes on', 'durable', 'push', 'tokens at most', 'SQL'):
        table.add_column(head, justify='right' if head.startswith('tokens') else 'left', overflow='fold')
    for url, info in found:
        table.add_row(Text(url), *_row(info))
    return table


def _row(info: BackendInfo) -> list[str]:
    durable, push, sql = ('yes' if value else 'no' for value in (info.durable, info.push, info.sql))
    return [PLACES[info.reach], durable, push, f'{info.max_tokens:,}', sql]
