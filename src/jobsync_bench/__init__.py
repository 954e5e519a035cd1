"""Benchmarks of a store and of what jobsync makes of it: ``jobsync bench --backend URL``.

A *scenario* describes what it measures, what that means to a user and what bounds it, and measures it on any backend by its
URL. A *run* plays scenarios on stores one after the other. Parties that are compared are measured in turns, so other load on the
machine meets all of them alike. The output is *series*: one figure of one party in one case, measured several times. Reports
and plots are made from the file of the series alone.

The repository's harness (``benchmarks/``) plays the same scenarios on servers that it starts, and measures other libraries that
do the same work as further parties.
"""
