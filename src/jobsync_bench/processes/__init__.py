"""What runs in processes of its own, one module for each kind; ``jobsync_bench.processes.child`` starts and asks them."""
