"""An explorer of the states that the core's own code can reach with a small cluster on the memory store."""
