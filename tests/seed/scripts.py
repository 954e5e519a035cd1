"""Examples that are programs: each runs as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.job.stores import Store
from tests.job.waiting import DEADLINE_SEC
from tests.support.timings import FAST

PRELUDE = """
import logging
from types import SimpleNamespace
from jobsync import CoordinationConfig, Job, Task
logging.basicConfig(level=logging.INFO)
logger = logging.getLogger('guide')
config = SimpleNamespace(sync=SimpleNamespace(backend={url!r}, coordination={coordination!r}))
"""


class Script:
    """A process that runs an example, for the time of a block."""

    def __init__(self, folder: Path, store: Store, code: str, *arguments: str, **coordination: Any) -> None:
        path = folder / 'example.py'
        path.write_text(PRELUDE.format(url=store.url, coordination=FAST | coordination) + code)
        self.log = folder / 'log'
        with self.log.open('w') as log:
            self.process = subprocess.Popen(
                [sys.executable, str(path), *arguments], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def say(self, line: str) -> None:
        """A line for its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(DEADLINE_SEC)

    @property
    def errors(self) -> str:
        """What it has written."""
        return self.log.read_text()


def get(port: int, path: str) -> tuple[int, Any]:
    """The status and the JSON of an answer; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{port}{path}', timeout=DEADLINE_SEC) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except urllib.error.URLError:
        return 0, None
