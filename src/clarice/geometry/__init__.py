"""Rotations, polar grids, the angular operation, central slices."""
