"""Ours: training steps on batches that are ready-made; one thread."""

from benchmarks.serve import options, serve
from bsglib import runtime
from bsglib.runs import build
from bsglib.runs.params import RunConfig

runtime.single_thread()
config = RunConfig(validation_fraction=0.0, base_lr=0.001, epochs=1, **options())
dataset = build.dataset_of(config)
model = build.build_model(config, dataset)
optimizer = build.build_optimizer(config, model)
x = dataset.as_input(dataset.train.x, build.DTYPES[config.dtype])
batches = list(
    zip(x.split(config.batch_size), dataset.train.y.split(config.batch_size), strict=True)
)


def steps() -> dict:
    for images, labels in batches:
        build.train_batch(model, optimizer, images, labels, autocast=config.dtype == "bfloat16")
    return {"units": len(x)}


serve(steps, weights=sum(w.numel() for w in model.parameters()))
