"""Ways to learn where a symmetry holds, on a function of the plane with a mirror and a bump.

    f(x, y) = sin(3|x|) cos(2y), plus 1.5 (1 - |2x - 1|)(1 - |2y - 1|) where x > 0 and y > 0

is invariant under (x, y) -> (-x, y) but for one quarter. Everything is fitted by the same small
network, full batch, to noisy samples; printed are the mean squared error on fresh points, and the
mean of alpha where the mirror fails (y > 0) and where it holds (y < 0).

    python examples/broken_symmetry/toy.py [samples ...]
"""

from __future__ import annotations

import sys
from itertools import pairwise

import torch
from torch import Tensor

SEEDS, HIDDEN, STEPS, NOISE = 10, 48, 1000, 0.2


def target(x: Tensor) -> Tensor:
    symmetric = torch.sin(3 * x[..., 0].abs()) * torch.cos(2 * x[..., 1])
    bump = (1 - (2 * x - 1).abs()).prod(dim=-1) * (x > 0).all(dim=-1)
    return symmetric + 1.5 * bump


class Networks(torch.nn.Module):
    """One perceptron for each seed, `[seeds, batch, in] -> [seeds, batch]`, and its features."""

    def __init__(self, sizes: list[int], generator: torch.Generator) -> None:
        super().__init__()
        self.layers = torch.nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            bound = inputs**-0.5
            for shape in ((SEEDS, inputs, outputs), (SEEDS, 1, outputs)):
                start = (2 * torch.rand(shape, generator=generator) - 1) * bound
                self.layers.append(torch.nn.Parameter(start))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = x
        for k in range(0, len(self.layers) - 2, 2):
            hidden = torch.relu(torch.baddbmm(self.layers[k + 1], hidden, self.layers[k]))
        return torch.baddbmm(self.layers[-1], hidden, self.layers[-2])[..., 0], hidden


def st_clamp(h: Tensor) -> Tensor:
    return h + (h.clamp(0, 1) - h).detach()


def fit(way: str, x: Tensor, y: Tensor, test: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and alpha at the test points, `[seeds, points]`."""
    generator = torch.Generator().manual_seed(seed)
    network = Networks([2, HIDDEN, HIDDEN, 1], generator)
    gate = Networks([HIDDEN, 32, 1], generator)
    with torch.no_grad():
        gate.layers[-2].zero_()
        gate.layers[-1].zero_()
    flip = torch.tensor([-1.0, 1.0])
    parts = way.split("+")
    optimizer = torch.optim.Adam([*network.parameters(), *gate.parameters()], lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    held = torch.zeros_like(y, dtype=torch.bool)
    if "heldout" in parts:
        held[:, ::5] = True
    own = (~held).float() / (~held).float().mean()
    for_gate = held.float() / held.float().mean() if "heldout" in parts else torch.ones_like(y)

    def values(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        plain, features = network(points)
        mirrored, _ = network(points * flip)
        h, _ = gate(features.detach())
        return (plain + mirrored) / 2, plain, h

    def alpha_of(h: Tensor) -> Tensor:
        if "sigmoid" in parts:
            return torch.sigmoid(h - 4)
        if "sharp" in parts:
            return ((h - 0.25) / 0.5).clamp(0, 1)
        return h.clamp(0, 1)

    for _ in range(STEPS):
        symmetric, plain, h = values(x)
        if way == "plain":
            loss = (own * (plain - y) ** 2).mean(dim=1).sum()
        elif way == "equitune":
            loss = (own * (symmetric - y) ** 2).mean(dim=1).sum()
        else:
            d, r = (plain - symmetric).detach(), (y - symmetric).detach()
            if "sigmoid" in parts:
                alpha = alpha_of(h)
            elif "loss" in parts:
                alpha = st_clamp(h)
            else:
                alpha = alpha_of(h).detach()
            mixed = symmetric if "both" in parts else symmetric + alpha * (plain - symmetric)
            loss = (own * (mixed - y) ** 2).mean(dim=1).sum()
            if "aux" in parts:
                loss = loss + (own * (plain - y) ** 2).mean(dim=1).sum()
            if "stack" in parts:  # regress r on d, weighted by d²
                unit = (d**2).mean(dim=1, keepdim=True).clamp(min=1e-6)
                gate_loss = for_gate * (r - h * d) ** 2 / unit
                loss = loss + gate_loss.mean(dim=1).sum()
            if "which" in parts:  # regress which of the two squared errors is smaller
                won = ((plain.detach() - y) ** 2 < (symmetric.detach() - y) ** 2).float()
                gate_loss = for_gate * (h - won) ** 2
                loss = loss + gate_loss.mean(dim=1).sum()
            if "difference" in parts:  # the same, weighted by how much the errors differ
                gap = r**2 - (y - plain.detach()) ** 2
                unit = gap.abs().mean(dim=1, keepdim=True).clamp(min=1e-6)
                gate_loss = for_gate * gap.abs() / unit * (h - (gap > 0).float()) ** 2
                loss = loss + gate_loss.mean(dim=1).sum()
            if "prior" in parts:  # as if so much evidence had been for the symmetry everywhere
                usual = (r**2).mean(dim=1, keepdim=True)
                loss = loss + (0.3 * usual / unit * h**2).mean(dim=1).sum()
            if "gap" in parts:  # the same, but in units of what the two usually differ by
                loss = loss + (0.2 * h**2).mean(dim=1).sum()
            if "penalty" in parts:
                loss = (
                    loss + 0.01 * alpha_of(h).mean(dim=1).sum()
                    if "sigmoid" in parts
                    else (loss + 0.01 * h.clamp(min=-0.1).mean(dim=1).sum())
                )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        symmetric, plain, h = values(test)
        if way in ("plain", "equitune"):
            chosen = plain if way == "plain" else symmetric
            return chosen, torch.full_like(h, float(way == "plain"))
        alpha = alpha_of(h)
        return symmetric + alpha * (plain - symmetric), alpha


WAYS = (
    "plain", "equitune",
    "sigmoid+loss", "sigmoid+loss+penalty", "sigmoid+loss+aux", "loss+aux",
    "aux+which", "aux+difference", "aux+difference+prior",
    "aux+stack", "aux+stack+prior", "aux+stack+prior+sharp",
    "aux+both+stack+prior+sharp", "aux+stack+gap+sharp", "aux+stack+sharp+heldout",
)  # fmt: skip


def main(sizes: list[int], broken: bool = True) -> None:
    torch.set_num_threads(1)
    test = torch.rand(SEEDS, 2000, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for samples in sizes:
        generator = torch.Generator().manual_seed(samples)
        x = torch.rand(SEEDS, samples, 2, generator=generator) * 2 - 1
        y = target(x) + NOISE * torch.randn(SEEDS, samples, generator=generator)
        print(f"{samples} samples: mse (standard error), alpha where broken, where not")
        for way in WAYS:
            predicted, alpha = fit(way, x, y, test)
            errors = ((predicted - target(test)) ** 2).mean(dim=1)
            top = test[..., 1] > 0
            print(
                f"{way:30s} {errors.mean():.4f} ({errors.std() / SEEDS**0.5:.4f})"
                f"  {alpha[top].mean():.2f}  {alpha[~top].mean():.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [60, 200, 1000])
