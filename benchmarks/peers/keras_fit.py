"""Peer: Keras `fit` on TensorFlow, default settings; arrays in memory, as from `load_data`."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.serve import options, serve

given = options()
if given["dtype"] == "bfloat16":
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
with np.load(given["npz"]) as file:
    x, y = np.moveaxis(file["x"], 1, -1).astype("float32") / 255, file["y"]


def conv(filters: int) -> layers.Layer:
    return layers.Conv2D(filters, 3, padding="same", activation="relu")


def surlemont() -> list:
    blocks = [conv(32), layers.MaxPooling2D(), layers.Dropout(0.5)]
    blocks += [conv(64), layers.MaxPooling2D(), layers.Dropout(0.5)]
    return [*blocks, layers.Flatten()]


def kaabachi() -> list:
    blocks = []
    for first, second in ((32, 64), (128, 128), (256, 256)):
        blocks += [layers.Conv2D(first, 3, padding="same"), layers.BatchNormalization()]
        blocks += [layers.ReLU(), conv(second), layers.MaxPooling2D()]
        blocks += [layers.SpatialDropout2D(0.05)] if first == 128 else []
    dense = [layers.Flatten(), layers.Dropout(0.1), layers.Dense(1024, activation="relu")]
    return [*blocks, *dense, layers.Dense(512, activation="relu"), layers.Dropout(0.1)]


def f1() -> list:
    blocks = [layers.Flatten()]
    for _ in range(5):
        blocks += [layers.Dense(512), layers.BatchNormalization(), layers.ReLU()]
    return blocks


body = {"surlemont": surlemont, "kaabachi": kaabachi, "f1": f1}[given["network"]]()
model = keras.Sequential([keras.Input(x.shape[1:]), *body, layers.Dense(10, dtype="float32")])
model.compile(
    getattr(keras.optimizers, given["optimizer"])(given["lr"], **given["settings"]),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)


def epoch() -> dict:
    history = model.fit(x, y, batch_size=given["batch_size"], epochs=1, verbose=0)
    return {"units": len(x), "loss": history.history["loss"][0]}


weights = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
serve(epoch, weights=weights, version=keras.__version__, tensorflow=tf.__version__)
