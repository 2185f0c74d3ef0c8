"""Small environments whose symmetries are known to hold, or not to, for the statistical check."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Environment = gym.Env[Any, Any]


class Catch(gym.Env[Any, Any]):
    """A paddle catches falling balls; how many are left is not shown."""

    observation_space = spaces.Box(0, 1, (4,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, balls: int = 10, wind: float = 0.0, prize: float = 1.0) -> None:
        self.mirror = {"mirror": (self._mirrored, [2, 1, 0])}
        self.balls, self.wind, self.prize = balls, wind, prize

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left, self.paddle = self.balls, int(self.np_random.integers(7))
        self._drop()
        return self._observation(), {}

    @staticmethod
    def _mirrored(s: Any) -> Any:
        return np.array([1 - s[0], s[1], 1 - s[2], 1 - s[3]])

    def _drop(self) -> None:
        self.x, self.y = int(self.np_random.integers(7)), 0
        self.dx = int(self.np_random.integers(-1, 2))

    def _observation(self) -> Any:
        return np.array([self.x / 6, self.y / 7, (self.dx + 1) / 2, self.paddle / 6], np.float32)

    def step(self, action: Any) -> Any:
        self.paddle = int(np.clip(self.paddle + action - 1, 0, 6))
        self.y += 1
        self.x += self.dx + int(self.np_random.random() < self.wind)
        if not 0 <= self.x < 7:
            self.dx, self.x = -self.dx, int(np.clip(self.x, 0, 6))
        reward = 0.0
        if self.y == 7:
            reward = (self.prize if self.x < 3 else 1.0) if self.x == self.paddle else -1.0
            self.left -= 1
            self._drop()
        return self._observation(), reward, self.left == 0, False, {}


class Walk(gym.Env[Any, Any]):
    """A noisy walk along a line, mirrored at 0, with a velocity and an end.

    Args:
        length: of an episode; None lets it end at random.
        starts_right: all episodes begin on the right.
        noise: standard deviation of the noise, on the left and on the right.
        mixture: on the right the noise is two-valued, of the same mean and variance.
        push: added to the velocity beyond 1.6 on the right, about a twentieth of the states.
        sparse: a reward only beyond 2; its size on the left and on the right.
        end: the walk ends beyond this, on the left and on the right.
        as_dict: observations are a Dict with a lamp in it.
    """

    action_space = spaces.Discrete(2)

    def __init__(
        self,
        length: int | None = 40,
        starts_right: bool = False,
        noise: tuple[float, float] = (0.3, 0.3),
        mixture: bool = False,
        push: float = 0.0,
        sparse: tuple[float, float] | None = None,
        end: tuple[float, float] = (-9.0, 9.0),
        as_dict: bool = False,
    ) -> None:
        self.length, self.starts_right, self.noise, self.mixture = (
            length,
            starts_right,
            noise,
            mixture,
        )
        self.push, self.sparse, self.end, self.as_dict = push, sparse, end, as_dict
        line = spaces.Box(-50, 50, (2,), np.float32)
        self.observation_space: Any = line
        self.mirror: Any = {"mirror": ([-1, -1], [1, 0])}
        if as_dict:
            self.observation_space = spaces.Dict(walk=line, lamp=spaces.Discrete(2))
            self.mirror = {"mirror": ({"walk": np.negative, "lamp": lambda lamp: 1 - lamp}, [1, 0])}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.v = self.np_random.normal(), 0.2 * self.np_random.normal()
        if self.starts_right:
            self.x = abs(self.x)
        self.time, self.limit = 0, self.length or int(self.np_random.integers(10, 70))
        return self._observation(), {}

    def _observation(self) -> Any:
        walk = np.array([self.x, self.v], np.float32)
        return {"walk": walk, "lamp": int(self.x > 0)} if self.as_dict else walk

    def step(self, action: Any) -> Any:
        right = self.x > 0
        deviation = self.noise[int(right)]
        draw = self.np_random.normal()
        if self.mixture and right:
            draw = float(np.sign(draw))
        self.v = 0.7 * self.v + 0.2 * (2 * int(action) - 1) + deviation * draw - 0.1 * self.x
        self.v += self.push * (self.x > 1.6)
        self.x += 0.5 * self.v
        self.time += 1
        reward = 1.0
        if self.sparse is not None:
            reward = self.sparse[int(self.x > 0)] * (abs(self.x) > 2)
        ended = not self.end[0] < self.x < self.end[1] or self.time >= self.limit
        return self._observation(), reward, ended, False, {}


class ConnectFour(gym.Env[Any, Any]):
    """Four in a row against a random opponent; a full column takes no piece.

    Args:
        left: how likely the opponent drops its piece into the leftmost column that is free.
        column_reward: for a piece in column 1, and only there.
        one_hot: three planes of zeros and ones instead of -1, 0 and 1.
    """

    action_space = spaces.Discrete(7)

    def __init__(
        self, left: float = 0.0, column_reward: float = 0.0, one_hot: bool = False
    ) -> None:
        self.left, self.column_reward, self.one_hot = left, column_reward, one_hot
        shape = (3, 6, 7) if one_hot else (6, 7)
        self.observation_space = spaces.Box(-1, 1, shape, np.int8)
        self.mirror: Any = {"mirror": (lambda s: s[..., ::-1], [6, 5, 4, 3, 2, 1, 0])}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.board = np.zeros((6, 7), np.int8)
        return self._observation(), {}

    def _observation(self) -> Any:
        if self.one_hot:
            return np.stack([self.board == who for who in (-1, 0, 1)]).astype(np.int8)
        return self.board.copy()

    def step(self, action: Any) -> Any:
        reward = self.column_reward * (int(action) == 1)
        if self._drop(int(action), 1):
            return self._observation(), 1.0 + reward, True, False, {}
        free = np.flatnonzero(self.board[0] == 0)
        if len(free) == 0:
            return self._observation(), reward, True, False, {}
        chosen = int(self.np_random.choice(free))
        if self.np_random.random() < self.left:
            chosen = int(free[0])
        lost = self._drop(chosen, -1)
        over = lost or not (self.board[0] == 0).any()
        return self._observation(), reward - float(lost), over, False, {}

    def _drop(self, column: int, who: int) -> bool:
        rows = np.flatnonzero(self.board[:, column] == 0)
        if len(rows) == 0:
            return False
        row = int(rows[-1])
        self.board[row, column] = who
        for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
            count = 1
            for side in (1, -1):
                r, c = row + side * dr, column + side * dc
                while 0 <= r < 6 and 0 <= c < 7 and self.board[r, c] == who:
                    count, r, c = count + 1, r + side * dr, c + side * dc
            if count >= 4:
                return True
        return False


class WeakRight(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole that pushes 10 % less to the right."""

    def step(self, action: Any) -> Any:
        simulator: Any = self.unwrapped
        simulator.force_mag = 9.0 if action == 1 else 10.0
        return self.env.step(action)


class WeakTorque(gym.Wrapper[Any, Any, Any, Any]):
    """Pendulum that turns 10 % less to one side."""

    def step(self, action: Any) -> Any:
        return self.env.step(np.where(action > 0, 0.9 * action, action))


class StartsRight(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole whose episodes all begin on the right, moving to the right."""

    def reset(self, **kwargs: Any) -> Any:
        _, info = self.env.reset(**kwargs)
        simulator: Any = self.unwrapped
        state = np.array(simulator.state)
        state[1] += 0.4
        state[2] = abs(state[2]) + 0.03
        simulator.state = state
        return state.astype(np.float32), info


class WeakLeftEngine(gym.Wrapper[Any, Any, Any, Any]):
    """LunarLander with one side engine 10 % weaker."""

    def step(self, action: Any) -> Any:
        from gymnasium.envs.box2d import lunar_lander

        full = lunar_lander.SIDE_ENGINE_POWER
        lunar_lander.SIDE_ENGINE_POWER = 0.9 * full if action == 1 else full
        try:
            return self.env.step(action)
        finally:
            lunar_lander.SIDE_ENGINE_POWER = full


def transpose(state: int) -> int:
    """Of a cell of the 4 × 4 lake."""
    row, column = divmod(state, 4)
    return column * 4 + row


DIAGONAL = {"t": (transpose, [3, 2, 1, 0])}
SYMMETRIC_LAKE = ["SFFF", "FHFF", "FFHF", "FFFG"]
HOLE_MOVED = ["SFFF", "FHFF", "FFHF", "FFHG"]


def lake(desc: list[str]) -> Environment:
    """FrozenLake."""
    return gym.make("FrozenLake-v1", desc=desc)
