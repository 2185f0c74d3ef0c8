"""The agents that are compared where a symmetry is broken in places."""

from __future__ import annotations

import math
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
    """A DQN agent; ``relaxed-equizero`` is `relaxed` over `equizero`.

    ``relaxed-per_state`` is `relaxed` with one alpha for all actions, and ``relaxed-per_action``
    with one of each, always.
    """
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
    options: dict[str, Any] = {"inner": inner} if inner else {}
    if inner.startswith("per_"):
        options = {"per_action": inner == "per_action"}
    return EquivariantDQN("MlpPolicy", env, method=name, **options, **settings)


TERMS = {
    "noaux": ("value",),
    "aux": ("value", "plain"),
    "both": ("symmetric", "plain"),
    "three": ("value", "symmetric", "plain"),
}
"""What is drawn to the target: Q_R, Q_G and Q."""


def vary(ways: str) -> None:
    """Other ways of learning alpha, for the comparison of ways alone; several joined by commas.

    priorX: PRIOR is X; floorX: FLOOR is. error: kappa is `ERROR_PRIOR`, in units of the error of
    Q_G alone; fading: so it is, and fades. paceX: p is X times what its network gives, which moves
    it more slowly. seen: alpha learns from the minibatch itself. local: y = r + gamma max of the
    symmetric target network, which differs along an orbit only where the step itself does.
    weighed, steady: see `WEIGHED`.
    predictors: of reward and next state, in place of the two Q-values. Or a key of `TERMS`.
    """
    others = ("prior", "floor", "pace", "error", "fading", *WEIGHED)
    names = [way for way in ways.split(",") if not way.startswith(others)]
    for way in set(ways.split(",")) - set(names):
        if way in ("error", "fading"):
            count_in_errors(way == "fading")
        elif way in WEIGHED:
            relaxing.error_and_gap, relaxing.PACE = weighed, WEIGHED[way]
        elif way.startswith("prior"):
            relaxing.PRIOR = float(way.removeprefix("prior"))
        elif way.startswith("floor"):
            relaxing.FLOOR = float(way.removeprefix("floor"))
        else:
            slow_down(float(way.removeprefix("pace")))
    if names:

        def loss(self: Any, sample: Any, targets: torch.Tensor) -> Any:
            return varied_loss(self, sample, targets, names)

        EquivariantDQN.loss = loss  # type: ignore[method-assign]


ERROR_PRIOR = 0.3
"""kappa where it is in units of the error of Q_G alone."""
FADES_AFTER = 500
"""Updates after which it is half of that, where it fades."""


def count_in_errors(fades: bool) -> None:
    """kappa p² with a kappa that does not know by how much Q and Q_G differ."""

    def prior(self: Any) -> torch.Tensor:
        asked = vars(self)["asked"] = vars(self).get("asked", 0) + 1  # once in every update
        faded = FADES_AFTER / (FADES_AFTER + asked) if fades else 1.0
        return torch.tensor(ERROR_PRIOR * faded)

    RelaxedWeighting.prior = property(prior)  # type: ignore[assignment,method-assign]


WEIGHED = {"weighed": 0.01, "steady": 0.002}
"""Where squares of r and of d are both counted as the Huber loss counts those of r, so that the
prior does not depend on the unit of the reward, what the newest count for in the running means."""


def weighed(symmetric: torch.Tensor, plain: torch.Tensor, target: torch.Tensor) -> Any:
    """The means of w r² / 2 and of w d² / 2 with w = 1 / max(1, |r|)."""
    r, d = target - symmetric, plain - symmetric
    half = 0.5 / r.abs().clamp(min=1)
    return (half * r.square()).mean(), (half * d.square()).mean()


def slow_down(pace: float) -> None:
    candidates = RelaxedWeighting.candidates

    def slower(self: Any, features: Any) -> Any:
        return tuple(pace * p for p in candidates(self, features))

    RelaxedWeighting.candidates = slower  # type: ignore[method-assign]


def varied_loss(model: Any, sample: Any, targets: torch.Tensor, ways: list[str]) -> torch.Tensor:
    symmetrized = model.q_net.symmetrized
    parts = relaxation(symmetrized, sample.observations)
    terms = next((TERMS[way] for way in ways if way in TERMS), TERMS["aux"])
    q = [getattr(parts, term).gather(1, sample.actions.long()) for term in terms]
    own = torch.stack([torch.nn.functional.smooth_l1_loss(each, targets) for each in q]).sum()
    judged = sample if "seen" in ways else newest_transitions(model, len(targets))
    parts = relaxation(symmetrized, judged.observations)
    evidence = [
        p if p.dim() == 1 else p.gather(1, judged.actions.long())[:, 0]  # of every action
        for p in parts.candidates
    ]
    if "predictors" in ways:
        predictors = vars(model).setdefault("predictors", Predictors(symmetrized))
        predictors.learn(sample)
        return own + symmetrized.weighting.loss(evidence, *predictors.judge(judged))
    y = local_targets(model, judged) if "local" in ways else model.targets(judged)
    symmetric, plain = (
        each.gather(1, judged.actions.long()) for each in (parts.symmetric, parts.plain)
    )
    return own + symmetrized.weighting.loss(evidence, symmetric, plain, y)


@torch.no_grad()
def local_targets(model: Any, sample: Any) -> torch.Tensor:
    following = relaxation(model.q_net_target.symmetrized, sample.next_observations).symmetric
    return sample.rewards + (1 - sample.dones) * model.gamma * following.amax(dim=1, keepdim=True)


class Predictors(torch.nn.Module):
    """Reward and next observation of each action, by a plain network and by its orbit's mean."""

    def __init__(self, symmetrized: Any) -> None:
        super().__init__()
        self.observations = symmetrized.input_action
        self.q_values = symmetrized.output_action
        self.shape = self.observations.leaves[0].shape
        self.entries, (actions,) = math.prod(self.shape), self.q_values.leaves[0].shape
        order = self.observations.group.order
        index = torch.arange(float(actions)).expand(order, 1, actions).contiguous()
        self.index = self.q_values.pull_back(index)[:, 0].long()  # of the action, for each g
        self.net = torch.nn.Sequential(
            torch.nn.Linear(self.entries, 64), torch.nn.ReLU(),
            torch.nn.Linear(64, 64), torch.nn.ReLU(),
            torch.nn.Linear(64, actions * (1 + self.entries)),
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(self.parameters(), 1e-3)

    def forward(self, sample: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the actions taken, `[batch, 1 + entries]`: the orbit's mean, and the plain network."""
        orbit = self.observations.orbit(sample.observations / 255)  # 0 or 255
        order, batch = orbit.shape[:2]
        given = self.net(orbit.flatten(0, 1).flatten(1)).view(order, batch, -1, 1 + self.entries)
        taken = self.index[:, sample.actions[:, 0].long()]  # [order, batch]
        rows = taken[..., None, None].expand(order, batch, 1, 1 + self.entries)
        given = given.gather(2, rows)[:, :, 0]
        change = given[..., 1:].reshape(order, batch, *self.shape)
        change = self.observations.pull_back(change).flatten(2)
        along = torch.cat([given[..., :1], change], dim=2)
        return along.mean(dim=0), along[0]

    def learn(self, sample: Any) -> None:
        losses = [(given - happened(sample)).square().mean() for given in self(sample)]
        self.optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        self.optimizer.step()

    @torch.no_grad()
    def judge(self, sample: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return *self(sample), happened(sample)


def happened(sample: Any) -> torch.Tensor:
    change = sample.next_observations / 255 - sample.observations / 255
    return torch.cat([sample.rewards, change.flatten(1)], dim=1)
