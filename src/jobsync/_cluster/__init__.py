"""What ``jobsync.Cluster`` is made of: one reading of a cluster, and what follows from it. Nothing here joins it.

What an operator does through it is recorded in the store, with who did it and why.
"""
