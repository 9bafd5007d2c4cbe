"""The papers' networks as one writes them with torch.nn, layer after layer in the paper's order."""

from torch import nn


def surlemont() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 10),
    )


def kaabachi() -> nn.Module:
    layers, channels = [], 3
    for first, second in ((32, 64), (128, 128), (256, 256)):
        layers += [nn.Conv2d(channels, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU()]
        layers += [nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Dropout2d(0.05)] if first == 128 else []
        channels = second
    dense = [nn.Flatten(), nn.Dropout(0.1), nn.Linear(4096, 1024), nn.ReLU()]
    dense += [nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 10)]
    return nn.Sequential(*layers, *dense)


def f1() -> nn.Module:
    layers, width = [nn.Flatten()], 784
    for _ in range(5):
        layers += [nn.Linear(width, 512), nn.BatchNorm1d(512), nn.ReLU()]
        width = 512
    return nn.Sequential(*layers, nn.Linear(512, 10))


NETWORKS = {"surlemont": surlemont, "kaabachi": kaabachi, "f1": f1}
