"""Surlemont, Javadi Farahzadi and Stähle, "Large batch sizes for Deep Learning".

Does sharpness-aware minimization make large batches generalize? Fashion-MNIST, six batch sizes,
SGD and Adam, learning rate fixed or scaled with the batch, without and with SAM.
"""

from bsglib.studies.study import Study
from bsglib.studies.surlemont.claims import CLAIMS
from bsglib.studies.surlemont.confirmatory import design
from bsglib.studies.surlemont.protocol import SurlemontParameters, shares, timing

__all__ = ["CLAIMS", "SurlemontParameters", "study"]

study = Study(
    name="surlemont_sam",
    title="Does SAM make large batches generalize?",
    source="Surlemont et al., Large batch sizes for Deep Learning",
    headline="figure-2",
    parameters=SurlemontParameters,
    design=design,
    timing=timing,
    claims=CLAIMS,
    shares=shares,
)
