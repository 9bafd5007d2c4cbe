"""Batch size, sharpness and generalization: the pieces behind the reports."""

from bsglib import runtime

__version__ = "0.2.0"

runtime.keep_memory()
