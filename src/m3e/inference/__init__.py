"""Texts to vectors."""

from m3e.inference.encoder import Encoder

__all__ = ["Encoder"]
