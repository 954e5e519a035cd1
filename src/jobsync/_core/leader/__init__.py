"""From what the leader has read to what it commits."""
