"""The pure core: the protocol's rules, with no clock, thread, I/O, logging or randomness of its own."""
