"""The configuration of a node: ``CoordinationConfig``, and where it comes from if it is not passed."""

from jobsync.config.fields import CoordinationConfig
from jobsync.config.sources import DEFAULT_BACKEND, ENVIRONMENT_VARIABLE, resolve

__all__ = ['DEFAULT_BACKEND', 'ENVIRONMENT_VARIABLE', 'CoordinationConfig', 'resolve']
