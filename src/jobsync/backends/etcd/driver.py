"""python-etcd3, made to work beside any protobuf of today.

What it brings of etcd's definitions was generated in 2020 and cannot be imported any more. It looks for them in one module, so
that module is put into its place before it is imported, with what ``protos`` makes. The package is unchanged since, so what this
leans on does not move. Whoever imports ``etcd3`` after a backend for etcd was made finds it working too.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from jobsync.backends.etcd.protos import ENUM_VALUES, MESSAGES, METHODS

__all__ = ['etcd3']

MODULE = 'etcd3.etcdrpc'


def stub_class(service: str) -> type:
    """The class whose instances have the methods of a service as functions on one channel."""

    def connect(self: Any, channel: Any) -> None:
        for method in METHODS.values():
            if method.service == service:
                setattr(self, method.name, method.on(channel))

    return type(f'{service}Stub', (), {'__init__': connect})


def definitions() -> ModuleType:
    """What stands in for ``etcd3.etcdrpc``."""
    module = ModuleType(MODULE, 'Definitions of etcd that jobsync made, for want of ones that can be imported.')
    vars(module).update(MESSAGES)
    vars(module).update(ENUM_VALUES)
    for service in {method.service for method in METHODS.values()}:
        setattr(module, f'{service}Stub', stub_class(service))
    return module


def import_etcd3() -> ModuleType:
    """The package, with its own definitions if somebody got it to work with them already."""
    if 'etcd3' not in sys.modules:
        sys.modules.setdefault(MODULE, definitions())
    import etcd3

    if not hasattr(etcd3, 'etcdrpc'):
        etcd3.etcdrpc = sys.modules[MODULE]
    found: ModuleType = etcd3
    return found


etcd3: Any = import_etcd3()
