"""All faults: importing this module fills the table."""

from __future__ import annotations

from tests.faults import clock_faults, line_faults, process_faults, store_faults
from tests.faults.fault import FAULTS

__all__ = ['FAULTS', 'MODULES']

MODULES = (process_faults, line_faults, store_faults, clock_faults)
