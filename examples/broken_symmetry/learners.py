"""The agents that are compared where a symmetry is broken in places."""

from __future__ import annotations

from typing import Any

import torch

from equirl.agents import (
    DoubleDQN,
    EquivariantDQN,
    MirrorLossDQN,
    OrbitNStepReplayBuffer,
    OrbitReplayBuffer,
)
from equirl.agents.baselines.residual_pathway import ResidualPathwayPolicy
from equirl.agents.relaxed_loss import newest_transitions
from equirl.envs import symmetry_of
from equirl.symmetrize import RelaxedWeighting, relaxation, relaxing


def build(env: Any, method: str, settings: dict[str, Any]) -> Any:
    """A DQN agent; ``relaxed-equizero`` is `relaxed` over `equizero`."""
    symmetry = symmetry_of(env)
    if method == "plain":
        return DoubleDQN("MlpPolicy", env, double_q=False, **settings)
    if method == "augment":
        n_steps, buffer = settings.get("n_steps", 1), {"symmetry": symmetry}
        if n_steps > 1:
            buffer |= {"n_steps": n_steps, "gamma": settings["gamma"]}
            settings = {**settings, "n_steps": 1}  # it is the buffer's
        settings = {
            **settings,
            "replay_buffer_class": OrbitNStepReplayBuffer if n_steps > 1 else OrbitReplayBuffer,
            "replay_buffer_kwargs": buffer,
        }
        return DoubleDQN("MlpPolicy", env, double_q=False, **settings)
    if method == "mirror_loss":
        return MirrorLossDQN("MlpPolicy", env, **settings)
    if method == "rpp":
        return EquivariantDQN(ResidualPathwayPolicy, env, **settings)
    name, _, inner = method.partition("-")
    options = {"inner": inner} if inner else {}
    return EquivariantDQN("MlpPolicy", env, method=name, **options, **settings)


def vary(ways: str) -> None:
    """Other ways of learning alpha, for the comparison of ways alone; several joined by commas."""
    for way in ways.split(","):
        if way.startswith("prior"):
            relaxing.PRIOR = float(way.removeprefix("prior"))
        if way == "unitplain":  # the usual error is that of M
            RelaxedWeighting.loss = by_plain  # type: ignore[method-assign]
        if way in LOSSES:
            terms = LOSSES[way]

            def loss(self: Any, sample: Any, targets: torch.Tensor, terms: Any = terms) -> Any:
                symmetrized = self.q_net.symmetrized
                parts = relaxation(symmetrized, sample.observations)
                q = {
                    name: getattr(parts, name).gather(1, sample.actions.long())
                    for name in ("value", "symmetric", "plain")
                }
                own = sum(torch.nn.functional.smooth_l1_loss(q[term], targets) for term in terms)
                evidence, symmetric, plain = parts.evidence, q["symmetric"], q["plain"]
                if "seen" not in ways:
                    sample = newest_transitions(self, len(targets))
                    targets = self.targets(sample)
                    parts = relaxation(symmetrized, sample.observations)
                    evidence = parts.evidence
                    symmetric, plain = (
                        part.gather(1, sample.actions.long())
                        for part in (parts.symmetric, parts.plain)
                    )
                return own + symmetrized.weighting.loss(evidence, symmetric, plain, targets)

            EquivariantDQN.loss = loss  # type: ignore[method-assign]


LOSS = RelaxedWeighting.loss


def by_plain(
    self: Any, evidence: Any, symmetric: Any, plain: Any, target: torch.Tensor
) -> torch.Tensor:
    whole = LOSS(self, evidence, symmetric, plain, target)
    prior = relaxing.PRIOR * evidence.square().mean()
    fit = (whole - prior) * self.running_error
    with torch.no_grad():
        error = torch.nn.functional.smooth_l1_loss(plain, target)
        self.by_plain = getattr(self, "by_plain", error).lerp(error, 0.01)
    return fit / self.by_plain + prior


LOSSES = {
    "noaux": ("value",),
    "aux": ("value", "plain"),
    "both": ("symmetric", "plain"),
    "three": ("value", "symmetric", "plain"),
}
"""What is drawn to the target: Q_R, Q_G and Q."""
