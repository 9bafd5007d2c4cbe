"""Frames of spoken digits, made from recordings."""

import hashlib
import io
import wave
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from bsglib.data.source import DIGITS, DataError, Source, channel_statistics, converted

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
RECORDINGS = "fsdd"  # the folder's name
RECORDINGS_SHA256 = "6b1a8e30f4df78a933fe25cf1ca0140c8c6f169c0a83649a15b70a5ae7407014"
FRAMES_VERSION = 1  # raise it when the frames change
RATE, WINDOW, HOP, FFT, BANDS, CONTEXT = 8000, 200, 80, 512, 40, 4


def spoken_digits(root: Path) -> Source:
    """Return frames of the Free Spoken Digit Dataset: 3,000 recordings, six speakers, 8 kHz.

    Each frame, 25 ms every 10 ms, is labelled with the digit of its recording. Its 360 features
    are 40 log-mel bands of nine frames: the frame and four on either side (the first and last are
    repeated at the ends). They are standardised by the official training part, the recordings with
    index 5 and above. A validation set of frames from it shares recordings with the training set.
    """
    folder = root / RECORDINGS

    def convert() -> tuple[dict[str, np.ndarray], list[str]]:
        parts = {key: [] for key in ("x", "y", "x_test", "y_test")}
        for name, content in _recordings(folder).items():
            digit, _, index = name.removesuffix(".wav").split("_")
            frames = _with_context(_log_mel(_samples(content)).astype(np.float32))
            suffix = "_test" if int(index) < 5 else ""
            parts["x" + suffix].append(frames)
            parts["y" + suffix].append(np.full(len(frames), int(digit), np.int64))
        arrays = {key: np.concatenate(part) for key, part in parts.items()}
        mean, std = (s.numpy() for s in channel_statistics(torch.from_numpy(arrays["x"])))
        for key in ("x", "x_test"):
            arrays[key] -= mean
            arrays[key] /= std
        return arrays, DIGITS

    return converted("spoken_digits", root, frames_checksum(), 1.0, convert)


def frames_checksum() -> str:
    """Return the checksum of the recordings and the version of the frames."""
    return f"sha256:{RECORDINGS_SHA256}, frames {FRAMES_VERSION}"


def _recordings(folder: Path) -> dict[str, bytes]:
    names = sorted(f"{d}_{s}_{i}.wav" for d in range(10) for s in SPEAKERS for i in range(50))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"missing file {folder / missing[0]} ({len(missing)} of {len(names)} recordings). "
            "Clone https://github.com/Jakobovski/free-spoken-digit-dataset, check out 26eb9aa, and "
            f"copy its recordings to {folder}, or set BSG_DATA to a folder that has them in fsdd"
        )
    contents = {name: (folder / name).read_bytes() for name in names}
    total = hashlib.sha256()
    for name, content in contents.items():
        total.update(name.encode() + b"\0" + content)
    if total.hexdigest() != RECORDINGS_SHA256:
        raise DataError(
            f"damaged or different recordings in {folder}: sha256 {total.hexdigest()}, expected "
            f"{RECORDINGS_SHA256}; use those of commit 26eb9aa"
        )
    return contents


def _samples(content: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(content)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def _log_mel(samples: np.ndarray) -> np.ndarray:
    """Logarithms of the energies in mel bands [frames, bands]; 1 is below the rounding noise."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hamming(WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2  # [frames, FFT / 2 + 1]
    return np.log1p(power @ _mel_filters().T)


@lru_cache(maxsize=1)
def _mel_filters() -> np.ndarray:
    """Triangles of equal width in mel = 2595 log10(1 + Hz / 700), [bands, FFT / 2 + 1]."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    low, middle, high = (edges[i : i + BANDS, None] for i in range(3))
    hz = np.fft.rfftfreq(FFT, 1 / RATE)
    return np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)).clip(0)


def _with_context(frames: np.ndarray) -> np.ndarray:
    """Each frame with its neighbours, [frames, bands * (2 * CONTEXT + 1)]."""
    padded = np.pad(frames, ((CONTEXT, CONTEXT), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * CONTEXT + 1, axis=0)
    return windows.reshape(len(frames), -1)
