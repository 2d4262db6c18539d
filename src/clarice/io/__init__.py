"""Particles in and out: MRC, STAR, cryoSPARC, stacks and paths."""
