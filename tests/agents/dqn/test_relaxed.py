"""`EquivariantDQN` with ``method="relaxed"``: what it begins as, learns, saves and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env

from equirl.agents import DeviceReplayBuffer, EquivariantDQN
from equirl.agents.equivariance_metrics import alphas
from equirl.agents.relaxed_loss import newest_transitions
from equirl.agents.training.callbacks import EquivarianceCallback
from equirl.errors import AgentError
from equirl.symmetrize import relaxation
from equirl.symmetrize.methods import Relaxed
from equirl.testing import assert_equivariant
from shared.policy_tasks import dict_env
from shared.small_agents import SMALL, cartpole
from shared.stock_twins import square_env

INNER = ["equitune", "lambda", "equizero", "canonical"]


def agent(env: Any = None, inner: str = "equitune", **kwargs: Any) -> EquivariantDQN:
    env = cartpole() if env is None else env
    return EquivariantDQN("MlpPolicy", env, "relaxed", inner=inner, **{**SMALL, **kwargs})


def let_go_somewhere(model: EquivariantDQN) -> EquivariantDQN:
    for network in (model.q_net, model.q_net_target):
        torch.manual_seed(0)
        with torch.no_grad():
            last = network.symmetrized.weighting.h[-1]
            last.weight.normal_(std=3)
            last.bias.fill_(0.5)
    return model


@pytest.mark.parametrize("inner", INNER)
def test_a_new_agent_is_exactly_equivariant_and_trains(inner: str) -> None:
    model = agent(square_env(), inner)
    symmetry, observations = model.symmetry, torch.randn(20, 4)
    assert_equivariant(model.q_net, symmetry.observations, symmetry.q_values, observations)
    before = model.q_net.symmetrized.weighting.h[-1].weight.clone()
    model.learn(100)
    assert not torch.equal(model.q_net.symmetrized.weighting.h[-1].weight, before)


def test_the_loss_draws_both_values_to_the_target_and_alpha_to_what_is_new() -> None:
    model = let_go_somewhere(agent().learn(100))
    sample, newest = model.replay_buffer.sample(32), newest_transitions(model, 32)
    assert np.array_equal(newest.observations, model.replay_buffer.observations[90:100, 0])
    symmetrized = model.q_net.symmetrized
    symmetrized.weighting.eval()

    def of(batch: Any) -> tuple[torch.Tensor, ...]:
        parts = relaxation(symmetrized, batch.observations)
        of_all, of_each = parts.candidates
        own, *q_values = (
            q.gather(1, batch.actions) for q in (of_each, parts.value, parts.symmetric, parts.plain)
        )
        return (of_all, own[:, 0]), *q_values

    targets = model.targets(sample)
    _, relaxed, _, plain = of(sample)
    candidates, _, symmetric, other = of(newest)
    expected = F.smooth_l1_loss(relaxed, targets) + F.smooth_l1_loss(plain, targets)
    expected += symmetrized.weighting.loss(candidates, symmetric, other, model.targets(newest))
    torch.testing.assert_close(model.loss(sample, targets), expected)


def test_shortcuts_train_to_the_same_numbers() -> None:
    found = []
    for shortcuts in (True, False):
        model = agent(square_env(), shortcuts=shortcuts).learn(120)
        found.append(torch.cat([p.detach().flatten() for p in model.q_net.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "buffer",
    [
        {"n_steps": 3},
        {"replay_buffer_class": DeviceReplayBuffer},
        {"buffer_size": 60},  # goes round
        {"env": lambda: make_vec_env(cartpole, n_envs=3)},
    ],
    ids=lambda buffer: next(iter(buffer)),
)
def test_the_newest_transitions_are_found_in_every_buffer(buffer: dict[str, Any]) -> None:
    env = buffer.pop("env", cartpole)()
    model = agent(env, **buffer).learn(150)
    newest = newest_transitions(model, 5)
    stored = model.replay_buffer.observations
    rows = np.asarray(getattr(stored, "tensor", stored))
    last = rows[(model.replay_buffer.pos - np.arange(5, 0, -1)) % len(rows)]
    pairs = zip(newest.observations.numpy(), last, strict=True)
    assert all(any(np.array_equal(seen, one) for one in row) for seen, row in pairs)
    assert newest.rewards.shape == (5, 1)


def test_dicts_with_images_are_let_go_of_too() -> None:
    kwargs = {"policy_kwargs": {"features_extractor_kwargs": {"cnn_output_dim": 8}}}
    settings: dict[str, Any] = {**SMALL, **kwargs, "learning_starts": 5, "batch_size": 4}
    model = EquivariantDQN("MultiInputPolicy", dict_env(), "relaxed", **settings).learn(15)
    assert model.q_net.symmetrized.weighting.running_error > 0


def test_with_the_trivial_group_it_is_dqn_bit_for_bit() -> None:
    torch.manual_seed(0)
    ours = agent(symmetry={}).learn(150)
    stock = DQN("MlpPolicy", cartpole(), **SMALL).learn(150)
    for mine, theirs in zip(
        ours.q_net.state_dict().values(), stock.q_net.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_a_saved_agent_lets_go_of_the_same(tmp_path: Path) -> None:
    model = let_go_somewhere(agent(inner="lambda"))
    model.save(tmp_path / "agent.zip")
    loaded = EquivariantDQN.load(tmp_path / "agent.zip", device="cpu")
    observations = torch.randn(9, 4)
    assert torch.equal(loaded.q_net(observations), model.q_net(observations))
    assert loaded.q_net.symmetrized.method == model.q_net.symmetrized.method


def test_tensorboard_shows_how_much_is_let_go_of(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = let_go_somewhere(agent(tensorboard_log=str(tmp_path)))
    model.learn(120, callback=EquivarianceCallback(every=50), log_interval=1)
    (run,) = tmp_path.iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    assert "equirl/alpha" in events.Tags()["histograms"]
    by_action = [event.value for event in events.Scalars("equirl/alpha_by_action")]
    assert by_action
    assert set(by_action) <= {0.0, 1.0}
    means = [event.value for event in events.Scalars("equirl/alpha_mean")]
    assert all(0 < mean < 1 for mean in means)


def test_other_agents_have_no_alpha() -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), "equizero", **SMALL)
    assert alphas(model, torch.randn(3, 4)) is None


def test_each_action_learns_what_is_let_go_of_by_itself_and_adds_it_to_what_all_do() -> None:
    model = agent(per_action=True).learn(100)
    newest, sample = newest_transitions(model, 32), model.replay_buffer.sample(32)
    symmetrized = model.q_net.symmetrized
    symmetrized.weighting.eval()
    (slope,) = torch.autograd.grad(
        model.loss(sample, model.targets(sample)), symmetrized.weighting.h[-1].bias
    )
    parts = relaxation(symmetrized, newest.observations)
    symmetric, plain = (q.gather(1, newest.actions) for q in (parts.symmetric, parts.plain))
    p = parts.evidence.gather(1, newest.actions)[:, 0].detach().requires_grad_()
    loss = symmetrized.weighting.loss([p], symmetric, plain, model.targets(newest))
    (of_each,) = torch.autograd.grad(loss, p)
    own = [of_each[newest.actions[:, 0] == action].sum() for action in (0, 1)]
    assert all(part != 0 for part in own)
    torch.testing.assert_close(slope, torch.stack([of_each.sum(), *own]))
    assert alphas(let_go_somewhere(model), torch.randn(5, 4)).shape == (5, 2)


@pytest.mark.parametrize("per_action", [None, True, False])
def test_an_agent_that_is_trained_on_keeps_to_its_kind_of_alpha(
    per_action: bool | None, tmp_path: Path
) -> None:
    model = let_go_somewhere(agent(per_action=per_action).learn(20))
    model.save(tmp_path / "agent.zip")
    on = EquivariantDQN.from_pretrained(
        tmp_path / "agent.zip", cartpole(), "relaxed", per_action=None, device="cpu"
    )
    saw, kinds = torch.randn(5, 4), (model.policy_kwargs, on.policy_kwargs)
    kind = "auto" if per_action is None else per_action
    assert [each["per_action"] for each in kinds] == [kind] * 2
    found = alphas(on, saw)
    assert found.shape == ((5,) if per_action is False else (5, 2))
    assert torch.equal(found, alphas(model, saw))
    for how in ({"method": Relaxed()}, {"policy_kwargs": {"method": "relaxed"}}):
        on = EquivariantDQN.from_pretrained(tmp_path / "agent.zip", cartpole(), device="cpu", **how)
        assert torch.equal(found, alphas(on, saw))
    with pytest.raises(AgentError, match=f"was trained with per_action={kind}"):
        EquivariantDQN.from_pretrained(
            tmp_path / "agent.zip", cartpole(), "relaxed", per_action=kind is False
        )


@pytest.mark.parametrize(
    ("given", "inner"),
    [
        ({"method": "relaxed"}, "lambda"),
        ({"policy_kwargs": {"method": "relaxed"}}, "lambda"),
        ({"method": "relaxed", "inner": "equizero"}, "equizero"),
        ({"method": Relaxed("equizero")}, "equizero"),
    ],
)
def test_an_agent_that_is_trained_on_keeps_its_inner_method_unless_told_another(
    given: dict[str, Any], inner: str, tmp_path: Path
) -> None:
    model = let_go_somewhere(agent(inner="lambda").learn(20))
    model.save(tmp_path / "agent.zip")
    on = EquivariantDQN.from_pretrained(tmp_path / "agent.zip", cartpole(), device="cpu", **given)
    assert on.policy_kwargs["inner"] == inner
    saw = torch.randn(50, 4)
    with torch.no_grad():
        assert torch.equal(on.q_net(saw), model.q_net(saw)) == (inner == "lambda")
