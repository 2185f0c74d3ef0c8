"""Image classifiers: exactly invariant, and better on turned digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from equirl import GroupAction
from equirl.errors import ConfigError
from equirl.testing import assert_equivariant
from images import run as images
from images.classifiers import (
    GROUPS,
    Classifier,
    build,
    image_action,
    small_network,
    split,
    symmetrized,
)
from running import main
from shared.extras import skip_without


def assert_all_methods_invariant(classifier: Classifier, group: str, x: torch.Tensor) -> None:
    action = image_action(group, tuple(x.shape[1:]))
    out = GroupAction.trivial(action.group, (classifier.head.out_features,))
    for method in ("equitune", "equizero", "lambda"):
        model = symmetrized(classifier, action, method).to(x.dtype).eval()
        if method == "lambda":  # at its start λ is equitune
            nn.init.normal_(model.weighting.h[-1].weight)
        with torch.no_grad():
            assert_equivariant(model, action, out, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group", GROUPS)
def test_every_method_is_exactly_invariant(group: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    classifier = small_network(10, 8).classifier
    assert_all_methods_invariant(classifier, group, torch.randn(6, 1, 8, 8, dtype=dtype))


@pytest.mark.long
@pytest.mark.parametrize(
    ("network", "package"),
    [
        ("efficientnet_lite0", "efficientnet_lite_pytorch"),
        ("resnet18", "torchvision"),
        *(
            pytest.param(name, "torchvision", marks=pytest.mark.slow)
            for name in ("alexnet", "vgg11", "densenet121")
        ),
    ],
)
def test_pretrained_networks_are_split_and_exactly_invariant(network: str, package: str) -> None:
    skip_without(package)
    settings = OmegaConf.create({"network": network, "weights": "", "size": 64})
    source = build(settings, 10)
    assert source.is_pretrained
    assert_all_methods_invariant(source.classifier, "rotations", torch.randn(2, 3, 64, 64))


def test_a_network_is_its_features_and_its_last_linear_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.randn(4, 3, 2, 2)
    expected = network(x)
    classifier = split(network, size=2)
    assert classifier.head.in_features == 5
    torch.testing.assert_close(classifier(x), expected)


@pytest.mark.parametrize("last", [nn.Conv2d(3, 2, 1), nn.Sequential(nn.Linear(2, 2), nn.ReLU())])
def test_a_network_without_features_for_lambda_is_refused(last: nn.Module) -> None:
    with pytest.raises(ConfigError, match="Sequential"):
        split(nn.Sequential(last, nn.Flatten()), size=2)


def test_a_network_that_takes_no_images_so_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="size=2"):
        split(nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(1, 2)), size=2)


@pytest.mark.parametrize(
    "wrong",
    ["data=digit", "group=turns", "network=smal", "methods=[zero]", "methods=[]", "size=-1"],
)
def test_a_wrong_setting_is_code_2(wrong: str) -> None:
    if wrong.startswith("network"):
        skip_without("torchvision")
    assert main(images.run, images.DEFAULTS, {**images.QUICK, "epochs": 0}, ["--quick", wrong]) == 2


@pytest.mark.slow
def test_turned_digits_are_read_better(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert main(images.run, images.DEFAULTS, images.QUICK, ["--quick", f"out={out}"]) == 0
    rows = {row["method"]: row for row in json.loads(out.read_text())["rows"]}
    plain = float(rows["plain"]["turned"])
    assert float(rows["lambda"]["turned"]) > plain + 15
    assert float(rows["equitune"]["fine-tuned turned"]) > plain + 15
    for method in ("equitune", "equizero", "lambda"):
        assert rows[method]["turned"] == rows[method]["upright"]
