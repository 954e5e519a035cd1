"""Who is to have how many tokens, and which: counts and arrays, nothing else."""
