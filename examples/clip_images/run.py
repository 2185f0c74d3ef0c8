"""CLIP's zero-shot classification made invariant to rotations: arXiv 2305.09900.

python examples/clip_images/run.py data=cifar10 download=true
python examples/clip_images/run.py pretrained=      # without weights: exactness, no accuracy
python examples/clip_images/run.py model=small size=32 pretrained= data=digits pretraining=300
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from equirl.errors import ConfigError
from images.classifiers import METHODS, Classifier, image_action, symmetrized
from images.data import Split, load, turned
from images.run import accuracy, check_methods, train
from running import Row, each_seed, main, need, one_of, over_seeds, quietly

DIGITS = "zero one two three four five six seven eight nine"
OBJECTS = "airplane automobile bird cat deer dog frog horse ship truck"
CLASSES = {"digits": DIGITS.split(), "cifar10": OBJECTS.split()}
PROMPTS = {"digits": "a photo of the number {}.", "cifar10": "a photo of a {}."}
DEFAULTS = {
    "model": "ViT-B-32",
    "pretrained": "laion2b_s34b_b79k",
    "data": "cifar10",
    "root": "data",
    "download": False,
    "size": 224,
    "images": 1000,
    "labelled": 100,
    "pretraining": 0,
    "pretraining_lr": 1e-3,
    "group": "rotations",
    "methods": list(METHODS),
    "epochs": 20,
    "lr": 1e-2,
}
QUICK = {
    "model": "ViT-S-32-alt",
    "pretrained": "",
    "data": "digits",
    "images": 8,
    "labelled": 8,
    "epochs": 1,
}


class ImageFeatures(nn.Module):
    """φ: CLIP's image features of length one, ``[batch, d]``."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.clip.encode_image(images, normalize=True)
        return features


@torch.no_grad()
def classifier(clip: Any, tokeniser: Any, prompts: list[str]) -> Classifier:
    """CLIP as a classifier: its head is the similarity to the prompt of each class."""
    tokens = tokeniser(prompts).to(clip.logit_scale.device)
    text = clip.encode_text(tokens, normalize=True)
    head = nn.Linear(text.shape[1], len(prompts), bias=False).to(text)
    head.weight.copy_(clip.logit_scale.exp() * text)
    return Classifier(ImageFeatures(clip), head).eval().requires_grad_(False)


def check_names(settings: DictConfig) -> None:
    """Raise a ConfigError where there is no such data set, method, model or weights of it."""
    one_of("data", settings.data, tuple(CLASSES))
    check_methods(settings)
    if settings.pretrained and settings.pretraining:
        raise ConfigError("pretraining= is of a model without weights: say pretrained= as well")
    open_clip = need("open_clip", "open_clip_torch")
    one_of("model", settings.model, ["small", *open_clip.list_models()])
    if settings.pretrained and not Path(settings.pretrained).is_file():
        known = open_clip.list_pretrained_tags_by_model(settings.model)
        one_of("pretrained", settings.pretrained, ["", *known])


def small_clip() -> Any:
    """CLIP of open_clip at a size that a CPU trains in a minute."""
    parts = need("open_clip.model", "open_clip_torch")
    vision = parts.CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=4, image_size=32)
    return parts.CLIP(64, vision, parts.CLIPTextCfg(layers=2, width=64, heads=2))


def model_of(name: str, pretrained: str) -> tuple[Any, Any]:
    """CLIP and its tokeniser; randomly initialised where ``pretrained`` is empty.

    Raises:
        ConfigError: its weights are missing.
    """
    open_clip = need("open_clip", "open_clip_torch")
    if name == "small":
        return small_clip(), open_clip.get_tokenizer("ViT-B-32")
    try:
        with quietly():
            clip = open_clip.create_model(name, pretrained=pretrained or None)
            return clip, open_clip.get_tokenizer(name)
    except Exception as error:  # of whichever hub it comes from
        raise ConfigError(
            f"the weights {pretrained!r} of {name} can be neither read nor downloaded; "
            f"pretrained= takes a randomly initialised model ({type(error).__name__})"
        ) from None


def pretrain(clip: Any, tokens: Tensor, data: Split, steps: int, lr: float) -> None:
    """Bring images near the prompt of their class, as CLIP's own loss does with captions.

    Args:
        clip: as it was initialised; both its towers learn.
        tokens: of the prompt of each class.
        data: upright images.
        steps: of 64 images.
        lr: of Adam.
    """
    optimiser = torch.optim.Adam(clip.parameters(), lr=lr)
    for _ in range(steps):
        rows = torch.randint(len(data.labels), (64,))
        images = clip.encode_image(data.images[rows], normalize=True)
        text = clip.encode_text(tokens, normalize=True)
        loss = F.cross_entropy(clip.logit_scale.exp() * images @ text.T, data.labels[rows])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimiser.step()


def one_seed(settings: DictConfig, seed: int) -> dict[tuple[str, str], float]:
    """Accuracy by method and column, and how far turning an image changes the probabilities."""
    torch.manual_seed(seed)
    clip, tokeniser = model_of(settings.model, settings.pretrained)
    clip = clip.to(settings.device)
    if settings.size not in torch.as_tensor(clip.visual.image_size).flatten().tolist():
        raise ConfigError(
            f"{settings.model} takes images of size={clip.visual.image_size}, got {settings.size}"
        )
    prompts = [PROMPTS[settings.data].format(name) for name in CLASSES[settings.data]]
    learning, test = load(settings, 3, seed)
    if settings.pretraining:
        tokens = tokeniser(prompts).to(settings.device)
        pretrain(clip, tokens, learning, settings.pretraining, settings.pretraining_lr)
    plain = classifier(clip, tokeniser, prompts)
    few = Split(learning.images[: settings.labelled], learning.labels[: settings.labelled])
    action = image_action(settings.group, tuple(test.images.shape[1:]))
    moved = turned(test.images, action, seed)
    found = {}
    for method in settings.methods:
        model = symmetrized(plain, action, method).to(settings.device).eval()
        if method == "lambda":
            train(model, model.weighting.parameters(), few, settings.epochs, settings.lr)
        found[method, "upright"] = accuracy(model, test.images, test.labels)
        found[method, "turned"] = accuracy(model, moved, test.labels)
        found[method, "change"] = _change(model, test.images[:16], moved[:16])
    return found


def run(settings: DictConfig) -> list[Row]:
    """The table: accuracy in per cent over seeds, and the largest change of a probability."""
    check_names(settings)
    if not settings.pretrained:
        made = f"trained here for {settings.pretraining} steps" * bool(settings.pretraining)
        print(
            f"{settings.model} is {made or 'randomly initialised'}: "
            + ("not with CLIP's weights" if made else "its accuracy means nothing, `change` does"),
            flush=True,
        )
    found = [one_seed(settings, seed) for seed in each_seed(settings)]
    return [
        {
            "method": method,
            **{c: over_seeds([seed[method, c] for seed in found]) for c in ("upright", "turned")},
            "change": max(seed[method, "change"] for seed in found),
        }
        for method in settings.methods
    ]


@torch.no_grad()
def _change(model: nn.Module, images: Tensor, moved: Tensor) -> float:
    return float((model(images).softmax(dim=1) - model(moved).softmax(dim=1)).abs().max())


if __name__ == "__main__":
    sys.exit(main(run, DEFAULTS, QUICK))
