"""How many tokens each node is to have, and which: counts and arrays, nothing else."""
