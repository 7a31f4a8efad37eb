"""Bundled models, published figures and sample data."""
