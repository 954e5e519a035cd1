"""A process that holds the lock of an incarnation: ``python -m tests.job.lock_holder FOLDER INCARNATION MODE``.

It writes a line once it holds the lock and has done what the mode says, and then sleeps.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import NoReturn

from jobsync._runtime.host_lock import HostFolder


def become_another(*_: object) -> NoReturn:
    """Go on as another program."""
    program = 'import time; print(0, flush=True); time.sleep(600)'
    os.execv(sys.executable, [sys.executable, '-c', program])  # noqa: S606 - a program that becomes another


folder, incarnation, mode = sys.argv[1:]
lock = HostFolder(folder).hold(incarnation)
child = 0
match mode:
    case 'fork':
        child = os.fork()
    case 'fork of C':  # no hook of Python runs in the child
        child = ctypes.CDLL(None).fork()
    case 'close all':
        os.dup2(1, 200)
        os.closerange(3, 200)
    case 'exec':
        become_another()
    case 'exec when asked':
        signal.signal(signal.SIGUSR1, become_another)
if mode.startswith('fork') and child == 0:
    time.sleep(600)
os.write(1, f'{child}\n'.encode())
time.sleep(600)
