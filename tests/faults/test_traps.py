"""A trap stops a process where it stands."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.libraries.process import ROOT

ROUNDS = 20
STOPPED_SEC = 0.05
PROGRAM = f"""
import signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.faults.work import Trap, Traps
from jobsync.testing.worker_log import LogWriter

def spring():
    traps = Traps(LogWriter(Path(sys.argv[1])))
    for _ in range({ROUNDS}):
        traps.trap = Trap('call', signal=signal.SIGSTOP)
        began = time.monotonic()
        traps.spring('call', 'before')
        print(time.monotonic() - began, flush=True)

thread = threading.Thread(target=spring)
thread.start()
thread.join()
"""


def test_the_trapped_thread_does_nothing_more_before_the_stop(tmp_path: Path) -> None:
    """SIGSTOP takes effect before the call does, though the main thread sleeps."""
    with subprocess.Popen([sys.executable, '-c', PROGRAM, tmp_path / 'log'], stdout=subprocess.PIPE, text=True) as process:
        for _ in range(ROUNDS):
            while process.poll() is None and Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()[0] != 'T':
                time.sleep(0.001)
            time.sleep(STOPPED_SEC)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.005)  # the process goes on, and is not taken for stopped again
        took = [float(line) for line in process.communicate()[0].split()]
    assert len(took) == ROUNDS
    assert min(took) >= STOPPED_SEC / 2
