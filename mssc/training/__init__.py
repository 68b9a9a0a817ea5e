"""Training: what the network should have said, and the loop."""
