"""Figures in one style, and how a notebook shows them."""
