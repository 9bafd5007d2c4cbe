"""Chang & Pathak, "Effect of Batch Size on Neural Net Training" (2020).

What does the batch size do to losses, times, distances from the start and sharpness, and does a
linearly scaled learning rate undo it? Four batch sizes, plain SGD, cats against dogs.
"""

from bsglib.papers import Study
from bsglib.papers.chang.claims import CLAIMS
from bsglib.papers.chang.confirm import design
from bsglib.papers.chang.protocol import FIXED, LOSS, OTHER, SCALED, ChangParameters, timing

__all__ = [
    "CLAIMS",
    "FIXED",
    "LOSS",
    "OTHER",
    "SCALED",
    "ChangParameters",
    "design",
    "study",
]

study = Study(
    name="chang_batch_size",
    title="What does batch size do to training, and does the learning rate undo it?",
    source="Chang & Pathak, Effect of Batch Size on Neural Net Training",
    headline="surfaces",
    parameters=ChangParameters,
    design=design,
    timing=timing,
    claims=CLAIMS,
)
