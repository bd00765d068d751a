"""Measurements; nothing here is needed to read or build the book."""
