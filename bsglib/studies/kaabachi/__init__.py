"""Kaabachi, Ødum and Knöpfel, "Effects of batch size scaled learning rates and gradual warm up".

Do scaled learning rates and warm-up make up for large batches? CIFAR-10, plain SGD, batch sizes
from 4 to 2048, the rate fixed, scaled with the batch, or scaled and warmed up.
"""

from bsglib.studies.kaabachi.claims import CLAIMS
from bsglib.studies.kaabachi.confirmatory import design
from bsglib.studies.kaabachi.derived import shares
from bsglib.studies.kaabachi.protocol import KaabachiParameters, timing
from bsglib.studies.study import Study

__all__ = ["CLAIMS", "KaabachiParameters", "study"]

study = Study(
    name="kaabachi_warmup",
    title="Do scaled learning rates and warm-up make up for large batches?",
    source="Kaabachi et al., Effects of batch size scaled learning rates and gradual warm up",
    headline="figure-7",
    parameters=KaabachiParameters,
    design=design,
    timing=timing,
    claims=CLAIMS,
    shares=shares,
)
