"""A symmetry is used by rsl_rl's own PPO extension."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from equirl import GroupAction, Symmetry
from equirl.errors import SymmetryError
from equirl.integrations.rsl_rl import data_augmentation

BOXES = spaces.Box(-9, 9, (4,)), spaces.Box(-1, 1, (2,))
LEGS = Symmetry.from_generators(*BOXES, {"legs": ([2, 3, 0, 1], [1, 0])})
OBSERVATIONS, ACTIONS = torch.randn(5, 4), torch.randn(5, 2)


def test_the_batch_comes_first_and_its_images_after_it() -> None:
    observations, actions = data_augmentation(LEGS)(None, OBSERVATIONS, ACTIONS)
    torch.testing.assert_close(observations[:5], OBSERVATIONS)
    torch.testing.assert_close(observations[5:], OBSERVATIONS[:, [2, 3, 0, 1]])
    torch.testing.assert_close(actions, torch.cat([ACTIONS, ACTIONS[:, [1, 0]]]))


def test_groups_of_observations_move_by_their_own_action() -> None:
    tensordict = pytest.importorskip("tensordict", reason="comes with rsl-rl-lib")
    critic = GroupAction.on_vectors(LEGS.group, permutations=[[0, 1], [1, 0]])
    privileged = torch.randn(5, 2)
    obs = tensordict.TensorDict({"policy": OBSERVATIONS, "critic": privileged}, batch_size=[5])
    augment = data_augmentation(LEGS, {"policy": LEGS.observations, "critic": critic})
    augmented, actions = augment(env=None, obs=obs, actions=None)
    assert actions is None
    assert augmented.batch_size == torch.Size([10])
    torch.testing.assert_close(augmented["critic"][5:], privileged.flip(1))
    with pytest.raises(SymmetryError, match="critic"):
        data_augmentation(LEGS)(env=None, obs=obs, actions=None)


def test_rsl_rl_augments_and_measures_the_mirror_loss() -> None:
    extensions = pytest.importorskip("rsl_rl.extensions", reason="needs rsl-rl-lib")
    tensordict = pytest.importorskip("tensordict")
    storage = pytest.importorskip("rsl_rl.storage")
    obs = tensordict.TensorDict({"policy": OBSERVATIONS}, batch_size=[5])
    fields = dict.fromkeys(("old_actions_log_prob", "values", "advantages", "returns"))
    batch = storage.RolloutStorage.Batch(observations=obs, actions=ACTIONS)
    for name in fields:
        setattr(batch, name, torch.randn(5, 1))
    symmetry = extensions.Symmetry(
        env=None, data_augmentation_func=data_augmentation(LEGS), use_data_augmentation=True
    )
    symmetry.augment_batch(batch, 5)
    assert batch.actions.shape == (10, 2)
    assert batch.returns.shape == (10, 1)
    matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def equivariant(obs: tensordict.TensorDict) -> torch.Tensor:
        left, right = obs["policy"][:, :2], obs["policy"][:, 2:]
        return torch.stack([(left @ matrix).sum(1), (right @ matrix).sum(1)], dim=1)

    assert symmetry.compute_loss(equivariant, batch, 5) < 1e-10
    assert symmetry.compute_loss(lambda obs: obs["policy"][:, :2], batch, 5) > 1e-3


def test_discrete_actions_are_refused() -> None:
    cartpole = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)
    symmetry = Symmetry.from_generators(*cartpole, {"mirror": (np.negative, [1, 0])})
    with pytest.raises(SymmetryError):
        data_augmentation(symmetry)
