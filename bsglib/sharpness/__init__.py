"""Sharpness around a minimizer: Keskar's metric, curvature, and SAM's objective."""

from bsglib.sharpness.ascent import SAMSharpness, sam_sharpness
from bsglib.sharpness.hessian import (
    BatchSharpness,
    HessianTrace,
    LambdaMax,
    batch_sharpness,
    hessian_trace,
    hvp,
    lambda_max,
)
from bsglib.sharpness.keskar import Sharpness, keskar_sharpness

__all__ = [
    "BatchSharpness",
    "HessianTrace",
    "LambdaMax",
    "SAMSharpness",
    "Sharpness",
    "batch_sharpness",
    "hessian_trace",
    "hvp",
    "keskar_sharpness",
    "lambda_max",
    "sam_sharpness",
]
