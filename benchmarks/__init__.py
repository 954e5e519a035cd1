"""Measurements of this repository: the scenarios of ``jobsync_bench`` and more, on servers of its own, with other libraries."""
