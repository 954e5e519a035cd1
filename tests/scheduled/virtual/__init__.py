"""Processes and threads as steps on a virtual clock: real jobs run in one thread, from a seed.

* ``VirtualHost`` runs one virtual thread at a time. Its time passes while all of them wait.
* ``VirtualProcess`` is one process: its threads, its clock, its signals. It can be held, killed and interrupted.
* ``replaced`` puts the host in the place of ``threading``, ``time``, queues and signals in all modules of jobsync.
"""

from tests.scheduled.virtual.host import VirtualHost
from tests.scheduled.virtual.process import VirtualProcess
from tests.scheduled.virtual.replacing import replaced
from tests.scheduled.virtual.signals import VirtualSignals

__all__ = ['VirtualHost', 'VirtualProcess', 'VirtualSignals', 'replaced']
