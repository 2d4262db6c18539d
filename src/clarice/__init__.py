"""Clarice: joint denoising and ab initio reconstruction for single-particle cryo-EM."""

__version__ = "0.1.0"
