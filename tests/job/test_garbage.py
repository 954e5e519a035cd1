"""What a job leaves for the collector of garbage."""

from __future__ import annotations

import gc

from tests.job.stores import Store

from jobsync import Task


def test_no_finalizer(shared_store: Store) -> None:
    """Nothing with a method ``__del__``: the collector would call it, in any thread, in the midst of anything.

    What a signal's handler raises there is lost, a ``sys.exit`` too: the program would go on.
    """
    gc.collect()
    gc.disable()
    try:
        with shared_store.job() as job:
            job.add_task(Task('a'))
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            found = [repr(one) for one in gc.garbage if hasattr(type(one), '__del__')]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found == []
