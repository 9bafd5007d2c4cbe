"""Batch size, sharpness and generalization: the pieces behind the reports."""

__version__ = "0.2.0"
