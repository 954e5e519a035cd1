"""python-etcd3, importable beside any current protobuf.

The definitions that the package ships were generated in 2020 and fail to import today. The package reads them from one module,
``etcd3.etcdrpc``, so this module puts a stand-in made of ``protos`` there before the import. python-etcd3 has not changed since
2020. A program that imports ``etcd3`` after a backend for etcd was made gets the same working package.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from jobsync.backends.etcd.protos import ENUM_VALUES, MESSAGES, calls_on

__all__ = ['etcd3']

MODULE = 'etcd3.etcdrpc'
SERVICES = ('KV', 'Watch', 'Auth', 'Lease', 'Cluster', 'Maintenance')


def _stub_class(service: str) -> type:
    """Return the class that python-etcd3 expects for a service: its instances hold the calls on one channel."""

    def connect(self: Any, channel: Any) -> None:
        for name, call in calls_on(channel).items():
            if name.startswith(f'{service}.'):
                setattr(self, name.removeprefix(f'{service}.'), call)

    return type(f'{service}Stub', (), {'__init__': connect})


def _import_etcd3() -> ModuleType:
    """Import the package, with its own definitions if the program has imported it with these already."""
    if 'etcd3' not in sys.modules:
        stand_in = ModuleType(MODULE, 'Definitions of etcd, made by jobsync.')
        vars(stand_in).update(MESSAGES | ENUM_VALUES | {f'{service}Stub': _stub_class(service) for service in SERVICES})
        sys.modules.setdefault(MODULE, stand_in)
    import etcd3

    if not hasattr(etcd3, 'etcdrpc'):
        etcd3.etcdrpc = sys.modules[MODULE]
    found: ModuleType = etcd3
    return found


etcd3: Any = _import_etcd3()
