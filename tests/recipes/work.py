"""``work`` of the recipes, for the tests: each piece of work is a line of a log."""

from __future__ import annotations

import os
import time


def _log(done: object) -> None:
    log = os.open(os.environ['WORK_LOG'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, f'{os.getpid()} {done}\n'.encode())
    os.close(log)


def refresh(tick: object = None) -> None:
    """Log the tick, if there is one."""
    _log(getattr(tick, 'id', tick) or time.time())


def open_invoices() -> list[str]:
    """Return the ids of what is to be done."""
    return [f'invoice-{number}' for number in range(20)]


def send(invoice: str) -> None:
    """Log the invoice, after a while."""
    time.sleep(0.02)
    _log(invoice)
