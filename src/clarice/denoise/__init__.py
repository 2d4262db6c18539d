"""Denoisers, one file a method, found through the registry."""
