"""What ``Job`` is made of."""
