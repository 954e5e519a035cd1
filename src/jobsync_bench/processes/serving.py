"""The child's side of the requests: one line of JSON in, one line of JSON out. The end of the input ends the process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ['order', 'serve']


def order() -> dict[str, Any]:
    """Read the first line of the input: the arguments of the process."""
    arguments: dict[str, Any] = json.loads(sys.stdin.readline())
    return arguments


def serve(verbs: Mapping[str, Callable[..., object]]) -> None:
    """Report that the process is ready, then serve requests: each line has a verb and its arguments."""
    with os.fdopen(os.dup(1), 'w') as answers:
        os.dup2(2, 1)  # printed output must not be taken for a reply
        print('null', file=answers, flush=True)
        for line in sys.stdin:
            verb, *arguments = json.loads(line)
            print(json.dumps(verbs[verb](*arguments)), file=answers, flush=True)
