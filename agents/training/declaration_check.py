"""An unchecked declaration of a symmetry, checked on what a training plays anyway."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from equirl.agents.policy_spaces import for_policy
from equirl.symmetry import Symmetry
from equirl.verification import check_statistically
from equirl.verification.play import Step, as_play

MOST_BYTES = 2**26
"""Of observations that are kept for the check."""


class DeclarationCheckCallback(BaseCallback):
    """Tests a symmetry on the transitions of a training, a few times in its first steps.

    Says once if it is refused, by the statistical test of `equirl.verification.statistical`
    without trees and without planted violations. Changes nothing of the training, random numbers
    included.

    Args:
        symmetry: what was declared, of what the environment shows.
        warn: is given one line.
        at: numbers of transitions after which it is tested.
        level: probability of refusing a true symmetry in one of the tests.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        warn: Callable[[str], object],
        at: tuple[int, ...] = (3000, 10_000),
        level: float = 0.01,
    ) -> None:
        super().__init__()
        self.symmetry, self.warn, self.level = symmetry, warn, level
        self._due = list(at)
        self._steps: list[Step] = []
        self._last: Any = None
        self._places: list[tuple[int, int]] = []
        self._episodes = 0

    def _on_training_start(self) -> None:
        self._last = copy.deepcopy(self._seen(self.model._last_obs))
        self._places = [(self._new_episode(), 0) for _ in range(self.training_env.num_envs)]
        one = _one(self._last, 0)
        parts = one.values() if isinstance(one, dict) else [one]
        most = MOST_BYTES // max(1, sum(np.asarray(part).nbytes for part in parts))
        self._due = sorted({min(count, most) for count in self._due})

    def _on_step(self) -> bool:
        if not self._due or self._last is None:
            return True
        following = copy.deepcopy(self._seen(self.locals["new_obs"]))
        normalizer = self.model.get_vec_normalize_env()
        rewards = self.locals["rewards"] if normalizer is None else normalizer.get_original_reward()
        actions = self.locals.get("clipped_actions", self.locals["actions"])
        for i, done in enumerate(self.locals["dones"]):
            info = self.locals["infos"][i]
            episode, time = self._places[i]
            ended = bool(done and not info.get("TimeLimit.truncated", False))
            after = _one(following, i)
            if done and "terminal_observation" in info:
                after = copy.deepcopy(info["terminal_observation"])
                if normalizer is not None:
                    after = normalizer.unnormalize_obs(after)
            before, reward = _one(self._last, i), float(rewards[i])
            action = copy.deepcopy(actions[i])
            self._steps.append((before, action, after, reward, ended, episode, time))
            self._places[i] = (self._new_episode(), 0) if done else (episode, time + 1)
        self._last = following
        if len(self._steps) >= self._due[0]:
            self._due.pop(0)
            self._test()
        return True

    def _seen(self, observations: Any) -> Any:
        normalizer = self.model.get_vec_normalize_env()
        return observations if normalizer is None else normalizer.get_original_obs()

    def _new_episode(self) -> int:
        self._episodes += 1
        return self._episodes - 1

    def _test(self) -> None:
        carried = for_policy(self.symmetry, self.model.observation_space)
        self._steps.sort(key=lambda step: step[5:])  # those of several environments alternate
        played = as_play(carried.observation_space, self._steps)
        names = [carried.group.names[g] for g in carried.group.generators]
        verdicts = check_statistically(
            carried, names, played, self.level, with_trees=False, measure_sensitivity=False
        )
        refused = [v for v in verdicts if v.outcome == "refused"]
        if refused:
            what = ", ".join(f"{v.quantity} of {v.generator}" for v in refused)
            self.warn(
                f"the {len(played)} transitions so far speak against the declared symmetry "
                f"({what}, p = {min(v.size for v in refused):.2g}): see equirl check"
            )
        if refused or not self._due:
            self._due, self._steps = [], []


def _one(batch: Any, i: int) -> Any:
    if isinstance(batch, dict):
        return {key: part[i] for key, part in batch.items()}
    return batch[i]
