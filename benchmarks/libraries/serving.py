"""The side of a library's process: it makes one run for each line of input. Imports only Python's own library.

``benchmarks.libraries.process`` is the other side.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ['per_call', 'serve']


def per_call(call: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    """Return the CPU seconds per call of this thread, over one call for each of ``arguments``. The loop is included."""
    start = time.thread_time()
    for argument in arguments:
        call(argument)
    return (time.thread_time() - start) / len(arguments)


def serve(ready: str, run: Callable[[str], object]) -> None:
    """Report that the process is ready, then make one run for each line of input."""
    print(ready, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(line.strip())), flush=True)
