"""What a node is told: ``CoordinationConfig``, and how it is found when it is not given outright."""

from jobsync.config.fields import CoordinationConfig
from jobsync.config.sources import DEFAULT_BACKEND, ENVIRONMENT_VARIABLE, resolve

__all__ = ['DEFAULT_BACKEND', 'ENVIRONMENT_VARIABLE', 'CoordinationConfig', 'resolve']
