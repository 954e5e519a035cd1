"""Servers for tests: a process of our own each, on a port and in a temporary folder of its own, to be killed and restarted."""

from __future__ import annotations

from tests.support.servers.etcd import EtcdMember, EtcdServer, find_etcd, start_members
from tests.support.servers.pgbouncer import PgbouncerServer
from tests.support.servers.postgres import PostgresServer, find_postgres
from tests.support.servers.program import ServerNotFound, ServerProcess, find_programs, free_port
from tests.support.servers.redis import RedisServer, SentinelServer, find_redis

__all__ = [
    'EtcdMember',
    'EtcdServer',
    'PgbouncerServer',
    'PostgresServer',
    'RedisServer',
    'SentinelServer',
    'ServerNotFound',
    'ServerProcess',
    'find_etcd',
    'find_postgres',
    'find_programs',
    'find_redis',
    'free_port',
    'start_members',
]
