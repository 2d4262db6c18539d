"""Learning from simulated particles: endless batches, the sets a network is judged on, and the loop that trains."""
