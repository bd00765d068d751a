"""Thin helpers: what the book's equations say, and the instruments that check and show them."""
