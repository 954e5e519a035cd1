"""The life of one node as a state machine: time and replies come in, commands go out."""
