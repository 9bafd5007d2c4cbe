"""Keskar, "Large-Batch Training and Generalization Gap" (slides), and the paper behind them.

Do large batches converge to sharp minima, and do sharp minima generalize worse? Six networks, Adam,
a small batch and one of a tenth of the data; Keskar et al. 2017, arXiv 1609.04836.
"""

from bsglib.studies.keskar.claims import CLAIMS
from bsglib.studies.keskar.derived import shares
from bsglib.studies.keskar.protocol import KeskarParameters, design
from bsglib.studies.study import Study

__all__ = ["CLAIMS", "KeskarParameters", "study"]

study = Study(
    name="keskar_sharp_minima",
    title="Do large batches end in sharp minima that generalize worse?",
    source="Keskar, Large-Batch Training and Generalization Gap",
    headline="linear",
    parameters=KeskarParameters,
    design=design,
    timing=lambda parameters: None,
    claims=CLAIMS,
    shares=shares,
    examples="examples",  # images, and frames of speech
)
