"""What ``jobsync.Cluster`` is made of: one reading of a cluster, and what follows from it. Nothing here joins or changes it."""
