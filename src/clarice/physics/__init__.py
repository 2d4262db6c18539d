"""Image formation: atoms, CTF, noise, simulated data sets, procedural molecules."""
