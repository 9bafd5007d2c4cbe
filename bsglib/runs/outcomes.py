"""What a classifier makes of every single example: right or wrong, and at what loss."""

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bsglib.evaluate import chunks
from bsglib.weights import modes_kept

LOWEST, STEP = np.log(1e-6), np.log(1e8) / 255  # of the logarithms of losses: 1e-6 to 100 nats


@dataclass(frozen=True)
class Outcomes:
    """Per example whether it was right, bool [n], and its loss in nats, float64 [n]."""

    correct: np.ndarray
    loss: np.ndarray

    def packed(self) -> dict[str, str | int]:
        """Return them as text, about a byte an example: losses to within 4 per cent.

        A loss is held as one of 256 steps of its logarithm between 1e-6 and 100 nats, which is
        enough for the variance over examples that a difference of means needs.
        """
        steps = (np.log(np.maximum(self.loss, 1e-300)) - LOWEST) / STEP
        codes = np.clip(np.round(np.nan_to_num(steps, nan=255.0)), 0, 255).astype(np.uint8)
        texts = {"correct": np.packbits(self.correct), "loss": codes}
        return {"n": len(self.loss)} | {name: _text(values) for name, values in texts.items()}

    @classmethod
    def unpacked(cls, n: int, correct: str, loss: str) -> "Outcomes":
        """Return what `packed` made text of, losses rounded."""
        bits = np.unpackbits(_bytes(correct), count=n)
        return cls(bits.astype(bool), np.exp(LOWEST + STEP * _bytes(loss)))


@torch.no_grad()
def outcomes(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    as_input: Callable[[Tensor], Tensor] = lambda x: x,
    chunk_size: int | None = None,
) -> Outcomes:
    """Return what a classifier in evaluation mode makes of every example.

    Their means are the loss and accuracy of `evaluate`, which has the same arguments.
    """
    correct, losses = [], []
    with modes_kept(model):
        model.eval()
        for part, labels in chunks(x, y, chunk_size):
            outputs = model(as_input(part))
            losses.append(nn.functional.cross_entropy(outputs, labels, reduction="none").double())
            correct.append(outputs.argmax(1) == labels)
    return Outcomes(torch.cat(correct).cpu().numpy(), torch.cat(losses).cpu().numpy())


def _text(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
