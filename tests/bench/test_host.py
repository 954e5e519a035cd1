"""Many nodes in one process."""

from __future__ import annotations

import threading
import time
from contextlib import closing

from jobsync import plugins
from jobsync.backend import Backend, BackendOptions
from jobsync_bench.processes.host import Turns


def test_a_backend_goes_to_the_thread_that_has_waited_longest() -> None:
    """A node whose heartbeats had to wait while others send many would be taken for dead."""
    served: list[int] = []
    with closing(plugins.connect('memory://', BackendOptions())) as backend:
        turns = Turns([backend])
        assert turns.take() is backend

        def take_one(number: int) -> None:
            taken: Backend = turns.take()
            served.append(number)
            turns.give_back(taken)

        threads = []
        for number in range(20):
            threads.append(threading.Thread(target=take_one, args=(number,)))
            threads[-1].start()
            deadline = time.monotonic() + 100
            while len(turns._waiting) <= number:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        turns.give_back(backend)
        for thread in threads:
            thread.join(100)
        assert served == list(range(20))
        assert turns.take() is backend
