"""Texts to vectors."""

from m3e.inference.api import ApiEncoder
from m3e.inference.api_options import ApiOptions
from m3e.inference.encoder import Encoder
from m3e.inference.tfidf import TfidfEncoder

__all__ = ["ApiEncoder", "ApiOptions", "Encoder", "TfidfEncoder"]
