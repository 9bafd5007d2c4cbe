"""Losses along lines between minimizers and over planes around them."""

from bsglib.landscape.directions import (
    Direction,
    Plane,
    filter_normalized_direction,
    trajectory_plane,
)
from bsglib.landscape.lines import interpolate
from bsglib.landscape.surfaces import Index, Surface, loss_surface

__all__ = [
    "Direction",
    "Index",
    "Plane",
    "Surface",
    "filter_normalized_direction",
    "interpolate",
    "loss_surface",
    "trajectory_plane",
]
