"""Which rights of a node on the tables of PostgreSQL ``jobsync doctor`` finds that its user lacks."""

from __future__ import annotations

import contextlib
from typing import Any

from jobsync.cluster import Cluster
from jobsync.errors import JobsyncError

__all__ = ['missing_grants']


def missing_grants(cluster: Cluster) -> str:
    """Return the statements that give this user what it lacks of a node's rights on the tables; '' if it lacks none.

    Only PostgreSQL has rights on each table, and only their names show what is missing: a write into one is no sign for another.
    """
    backend: Any = cluster._backend
    if backend.info.name != 'postgresql' or not hasattr(backend, 'tables'):  # one that wraps another has none
        return ''
    import psycopg
    import sqlalchemy as sa

    from jobsync.backends.sql.postgresql.rights import lacking, needed_at_once

    refused = JobsyncError, sa.exc.SQLAlchemyError, psycopg.Error
    with contextlib.suppress(*refused), contextlib.closing(backend.connection()) as connection:
        raw: Any = connection.connection.dbapi_connection
        _, grants = lacking(raw, needed_at_once(backend.store.tables))
        return grants
    return ''
