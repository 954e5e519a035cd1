"""jobsync: many worker processes share a pile of tasks, and exactly one answers yes to "is this task mine?"."""
