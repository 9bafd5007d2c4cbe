"""Chang & Pathak, "Effect of Batch Size on Neural Net Training" (2020).

What does the batch size do to losses, times, distances from the start and sharpness, and does a
linearly scaled learning rate undo it? Four batch sizes, plain SGD, cats against dogs.
"""

from bsglib.studies.chang.claims import CLAIMS
from bsglib.studies.chang.confirmatory import design
from bsglib.studies.chang.derived import shares
from bsglib.studies.chang.protocol import ChangParameters, timing
from bsglib.studies.study import Study

__all__ = ["CLAIMS", "ChangParameters", "study"]

study = Study(
    name="chang_batch_size",
    title="What does batch size do to training, and does the learning rate undo it?",
    source="Chang & Pathak, Effect of Batch Size on Neural Net Training",
    headline="surfaces",
    parameters=ChangParameters,
    design=design,
    timing=timing,
    claims=CLAIMS,
    shares=shares,
)
