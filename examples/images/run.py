"""Pretrained image classifiers made invariant to rotations: arXiv 2210.06475 and 2305.09900.

python examples/images/run.py                                    # digits, a network trained here
python examples/images/run.py network=efficientnet_lite0 size=64 # ImageNet weights of a package
python examples/images/run.py network=resnet18 data=cifar10 size=64 download=true device=cuda
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from images.classifiers import GROUPS, METHODS, build, image_action, symmetrized
from images.data import DATA, Split, load, turned
from running import Row, each_seed, main, one_of, over_seeds

DEFAULTS = {
    "network": "small",
    "weights": "DEFAULT",
    "data": "digits",
    "root": "data",
    "download": False,
    "size": 0,
    "images": 0,
    "group": "rotations",
    "methods": list(METHODS),
    "seeds": 3,
    "epochs": 30,
    "fine_tuning_epochs": 5,
    "lr": 1e-3,
    "fine_tuning_lr": 3e-4,
    "weighting_lr": 1e-2,
}
QUICK = {"seeds": 1, "epochs": 15, "fine_tuning_epochs": 3, "images": 1000}


def train(
    model: nn.Module, parameters: Iterable[Tensor], data: Split, epochs: int, lr: float
) -> None:
    """Minimise the cross-entropy of the labels with Adam; all other parameters are frozen."""
    learned = list(parameters)
    model.requires_grad_(False)
    for parameter in learned:
        parameter.requires_grad_()
    optimiser = torch.optim.Adam(learned, lr=lr)
    for _ in range(epochs):
        for rows in torch.randperm(len(data.labels)).split(64):
            loss = F.cross_entropy(model(data.images[rows]), data.labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@torch.no_grad()
def along(function: nn.Module, images: Tensor) -> Tensor:
    """The function of all images, a part at a time."""
    return torch.cat([function(part) for part in images.split(256)])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """In per cent."""
    return 100 * float((along(model, images).argmax(dim=1) == labels).double().mean())


def one_seed(settings: DictConfig, seed: int) -> dict[tuple[str, str], float]:
    """Accuracy by method and column: zero-shot and fine-tuned, upright and turned."""
    torch.manual_seed(seed)
    source = build(settings, classes=10)
    learning, test = load(settings, source.channels, seed)
    classifier = source.classifier.to(settings.device).eval()
    if source.is_pretrained:  # a head is all that is learned
        seen = Split(along(classifier.features, learning.images), learning.labels)
        train(classifier.head, classifier.head.parameters(), seen, settings.epochs, settings.lr)
    else:
        train(classifier, classifier.parameters(), learning, settings.epochs, settings.lr)
    action = image_action(settings.group, tuple(test.images.shape[1:]))
    moved = turned(test.images, action, seed)
    found = {}
    for method in settings.methods:
        model = symmetrized(classifier, action, method).to(settings.device).eval()
        if method == "lambda":  # λ alone: the network stays as it is
            epochs = settings.fine_tuning_epochs
            train(model, model.weighting.parameters(), learning, epochs, settings.weighting_lr)
        for stage in ("", "fine-tuned "):
            if stage:
                epochs = settings.fine_tuning_epochs
                train(model, model.parameters(), learning, epochs, settings.fine_tuning_lr)
            found[method, f"{stage}upright"] = accuracy(model, test.images, test.labels)
            found[method, f"{stage}turned"] = accuracy(model, moved, test.labels)
    return found


def check_methods(settings: DictConfig) -> None:
    """Before hours of training: is there such a group, and every method?

    Raises:
        ConfigError: there is not.
    """
    one_of("group", settings.group, GROUPS)
    for method in settings.methods:
        one_of("methods", method, METHODS)


def run(settings: DictConfig) -> list[Row]:
    """The table: accuracy in per cent, mean over seeds with its 95 % interval."""
    one_of("data", settings.data, DATA)
    check_methods(settings)
    found = [one_seed(settings, seed) for seed in each_seed(settings)]
    columns = ("upright", "turned", "fine-tuned upright", "fine-tuned turned")
    return [
        {"method": m, **{c: over_seeds([seed[m, c] for seed in found]) for c in columns}}
        for m in settings.methods
    ]


if __name__ == "__main__":
    sys.exit(main(run, DEFAULTS, QUICK))
