"""A mark that a process has and its forks have not: a byte of memory that the kernel clears in the child.

Python calls functions in the child of ``os.fork``. C code that forks does not know of them: uWSGI, whose master loads an
application and forks its workers, or ``daemon(3)``::

    t=0  the master enters a job, and owns all tokens until 15
    t=1  two workers are forked in C: each has a copy of the lease
    t=2  the master and both workers would answer that the task is theirs
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence

__all__ = ['new_mark']

_WIPE_ON_FORK = 18
"""``MADV_WIPEONFORK``, which Linux has since 4.14."""


def new_mark() -> Sequence[bool]:
    """Return a sequence whose first element is True here, and False in every fork.

    Where the kernel does not offer that, it is True there too.
    """
    if sys.platform == 'linux':
        try:
            page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(_WIPE_ON_FORK)
        except OSError:
            return (True,)
        page[0] = 1
        return memoryview(page).cast('?')
    return (True,)
