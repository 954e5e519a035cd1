"""A member's side of the conversation: a line of JSON comes, a line of JSON goes. The end of the input ends the member."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ['order', 'serve']


def order() -> dict[str, Any]:
    """Read the first line: what the member is started with."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    return told


def serve(verbs: Mapping[str, Callable[..., object]]) -> None:
    """Say that all is ready, then do what each line asks for: a verb and its arguments."""
    with os.fdopen(os.dup(1), 'w') as answers:
        os.dup2(2, 1)  # what anybody prints is no answer
        print('null', file=answers, flush=True)
        for line in sys.stdin:
            verb, *arguments = json.loads(line)
            print(json.dumps(verbs[verb](*arguments)), file=answers, flush=True)
