"""Fixtures of the tests of retrieval."""

from tests.retrieval.store_urls import new_url, postgres, url

__all__ = ["new_url", "postgres", "url"]
