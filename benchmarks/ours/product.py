"""The limit: floating-point operations per second of a large matrix product, one thread."""

import torch

from benchmarks.serve import options, serve
from bsglib import runtime

runtime.single_thread()
given = options()
n = given["n"]
a, b = (torch.randn(n, n, dtype=getattr(torch, given["dtype"])) for _ in range(2))


def products() -> dict:
    for _ in range(given["times"]):
        a @ b
    return {"units": given["times"] * 2 * n**3}


serve(products)
