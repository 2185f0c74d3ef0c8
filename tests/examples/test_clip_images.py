"""CLIP: the similarity to the prompts of classes is exactly invariant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clip_images import run as clip_images
from clip_images.run import classifier, pretrain
from equirl import GroupAction
from equirl.testing import assert_equivariant
from images.classifiers import image_action, symmetrized
from images.data import Split
from images.run import accuracy
from running import main
from shared.extras import skip_without


class TinyClip(nn.Module):
    """With the interface of CLIP that the example uses."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(48, 6), nn.Linear(4, 6)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def encode_image(self, images: Tensor, normalize: bool) -> Tensor:
        return nn.functional.normalize(self.image(images.flatten(1)), dim=1)

    def encode_text(self, tokens: Tensor, normalize: bool) -> Tensor:
        return nn.functional.normalize(self.text(tokens), dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["equitune", "equizero", "lambda"])
def test_similarities_are_exactly_invariant(method: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)

    def tokeniser(prompts: list[str]) -> Tensor:
        return torch.randn(len(prompts), 4, dtype=dtype)

    plain = classifier(TinyClip().to(dtype), tokeniser, ["a", "b", "c"])
    action = image_action("rotations_and_flips", (3, 4, 4))
    model: Any = symmetrized(plain, action, method).to(dtype)
    if method == "lambda":
        nn.init.normal_(model.weighting.h[-1].weight)
    with torch.no_grad():
        x = torch.randn(5, 3, 4, 4, dtype=dtype)
        assert_equivariant(model, action, GroupAction.trivial(action.group, (3,)), x)


def test_pretraining_brings_images_near_the_prompt_of_their_class() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    data = Split(torch.randn(3, 3, 4, 4)[labels] + 0.1 * torch.randn(60, 3, 4, 4), labels)
    clip, tokens = TinyClip(), torch.randn(3, 4)
    pretrain(clip, tokens, data, steps=200, lr=1e-2)
    plain = classifier(clip, lambda prompts: tokens, ["a", "b", "c"])
    assert accuracy(plain, data.images, data.labels) == 100


def test_an_option_that_would_do_nothing_is_code_2() -> None:
    given = [clip_images.run, clip_images.DEFAULTS, clip_images.QUICK]
    assert main(*given, ["pretrained=openai", "pretraining=5"]) == 2


@pytest.mark.long
def test_quick_shows_exactness_and_says_that_there_are_no_weights(
    tmp_path: Path, capsys: Any
) -> None:
    skip_without("open_clip")
    given, out = [clip_images.run, clip_images.DEFAULTS, clip_images.QUICK], tmp_path / "out.json"
    assert main(*given, ["--quick", f"out={out}"]) == 0
    assert "randomly initialised" in capsys.readouterr().out.splitlines()[0]
    change = {row["method"]: row["change"] for row in json.loads(out.read_text())["rows"]}
    assert max(change[method] for method in ("equitune", "equizero", "lambda")) < 1e-5
