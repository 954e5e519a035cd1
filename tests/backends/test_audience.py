"""Whether a handle serves a node, where threads share it."""

from __future__ import annotations

import itertools
import sys
from types import FrameType
from typing import Any

from jobsync.backends._common.audience import Audience


def test_a_node_opens_the_handle_amid_a_program_that_shows_the_cluster() -> None:
    """At whichever step, the handle is that of the node."""
    for stop in itertools.count(1):
        audience, steps = Audience(), itertools.count(1)

        def trace(
            frame: FrameType, event: str, _: object, audience: Audience = audience, steps: Any = steps, stop: int = stop
        ) -> Any:
            frame.f_trace_opcodes = True
            if event == 'opcode' and next(steps) == stop:
                audience.add(is_node=True)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            audience.add(is_node=False)
        finally:
            sys.settrace(before)
        if next(steps) <= stop:
            assert stop > 5
            return
        assert not audience.only_reads, stop
