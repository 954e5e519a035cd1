"""The servers of the tests, as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.support.servers.program import ServerProcess

FORKING = """
import os, sys, time
open(sys.argv[1], 'w').close()
while True:
    if os.fork() == 0:
        time.sleep(3600)
        os._exit(0)
    time.sleep(0.002)
"""


class Forking(ServerProcess):
    """A program that makes one process after the other, as a server does for connections."""

    name = 'forking'

    def command(self) -> Sequence[str]:
        """See ``ServerProcess``."""
        return [sys.executable, '-c', FORKING, str(self.folder / 'started')]

    def answers(self) -> bool:
        """See ``ServerProcess``."""
        return (self.folder / 'started').exists()


def of_session(leader: int) -> list[str]:
    """Return the ids of the processes of a session that have not ended, each with its state."""
    listing = subprocess.run(['ps', '-A', '-o', 'sess=,pid=,stat='], capture_output=True, text=True, check=True).stdout
    found = (line.split() for line in listing.splitlines())
    return [f'{pid} {state}' for session, pid, state in found if int(session) == leader and not state.startswith('Z')]


def test_a_server_that_is_killed_leaves_no_process() -> None:
    """A process that it makes at that moment would keep what a server needs: PostgreSQL could not be started again."""
    server = Forking()
    try:
        leader = server.pid
        assert of_session(leader)
        server.kill()
        assert of_session(leader) == []
    finally:
        server.close()
