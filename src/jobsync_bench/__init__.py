"""Benchmarks of a store and of what jobsync makes of it: ``jobsync bench --backend URL``.

A *scenario* says what it measures, what that means to a user and what bounds it, and knows how to measure it on any backend by
its URL. A *run* plays scenarios on stores one after the other; what is compared is measured in turns, so that whatever else the
machine does meets all alike. What comes out are *series*: one figure of one party in one case, measured some times. Reports and
plots are made from the file with these, and from nothing else.

The project's own harness (``benchmarks/`` in its repository) plays the same scenarios on servers that it starts, beside other
libraries that do the same work.
"""
