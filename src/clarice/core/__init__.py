"""Types and rules every other floor shares; imports nothing else of Clarice."""
