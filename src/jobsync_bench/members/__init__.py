"""What runs in processes of its own, one module for each kind; ``jobsync_bench.crew`` starts and asks them."""
