"""`GridWorld` with a wall, or a slope, on one side only, which no observation shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from equirl.envs.boards.board_rendering import Image
from equirl.envs.boards.grid_world import GridWorld, is_free, reachable
from equirl.envs.parameters import fraction


class BrokenGridWorld(GridWorld):
    """A room that looks symmetric and is not: its right side has an unseen wall, or is a slope.

    ``"wall"``: a thin wall from the top downwards stands left of the two rightmost columns; a move
    across it leaves the agent where it is; every goal can be reached around it.
    ``"slope"``: on the rightmost columns every step that does not end on the goal is followed by a
    slide of one row down, as far as there is room.

    Args:
        broken_by: ``"wall"`` or ``"slope"``.
        share: of the cells from which some move does not do what it does elsewhere, in [0, 1]; as
            near as whole cells allow, and with a wall at most 2 (size − 1) / size². 0 is
            `GridWorld`.
        kwargs: as `GridWorld` takes them.

    Raises:
        ValueError: a parameter is out of its range, or the room too small for a wall.

    Example:
        >>> env = BrokenGridWorld(size=4, broken_by="slope", share=0.25)
        >>> _ = env.set_state(agent=(0, 3), goal=(3, 0))
        >>> env.step(3)[4]["is_broken"], env.agent
        (True, (1, 2))
    """

    def __init__(self, broken_by: str = "wall", share: float = 0.2, **kwargs: Any) -> None:
        if broken_by not in ("wall", "slope"):
            raise ValueError(f"broken_by is {broken_by!r}, expected 'wall' or 'slope'")
        share = fraction("share", share)
        self.broken_by = broken_by
        super().__init__(**kwargs)
        if broken_by == "wall" and share > 0 and self.size < 3:
            raise ValueError(f"size is {self.size}, expected at least 3, as the wall needs")
        cells = share * self.size**2
        self._length = min(round(cells / 2), self.size - 1) if broken_by == "wall" else 0
        self._slope = round(cells / self.size) if broken_by == "slope" else 0

    @property
    def is_broken(self) -> bool:
        """Whether some move from where the agent is does not do what it does elsewhere."""
        row, column = self.agent
        if self.broken_by == "slope":
            return column >= self.size - self._slope
        return row < self._length and column in (self.size - 3, self.size - 2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """See `GridWorld`; drawn again where the unseen wall and those drawn shut the goal off."""
        drawn = super().reset(seed=seed, options=options)
        while not self._is_reachable:
            drawn = super().reset(options=options)
        return drawn

    @property
    def _is_reachable(self) -> bool:
        """Whether a walk around all walls leads to the goal; slides are not looked at."""
        if not self._length:
            return True
        # A column more, free where one can cross, makes cells of the thin wall.
        edge = self.size - 2
        beside = self.walls[:, edge - 1 : edge + 1].any(axis=1)
        room = np.insert(self.walls, edge, beside | (np.arange(self.size) < self._length), axis=1)
        agent, goal = ((row, column + (column >= edge)) for row, column in (self.agent, self.goal))
        return agent in reachable(room, goal)

    def step(self, action: np.int64 | int) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """See `GridWorld`; ``info["is_broken"]`` is said of the state before the step."""
        broken, before = self.is_broken, self.agent
        observation, reward, success, _, _ = super().step(action)
        if self.broken_by == "wall":
            if broken and {before[1], self.agent[1]} == {self.size - 3, self.size - 2}:
                self.agent = before
        elif broken and not success:
            below = (self.agent[0] + 1, self.agent[1])
            self.agent = below if is_free(below, self.walls) else self.agent
        if broken:
            observation, success = self._observe(), self.agent == self.goal
            reward = 1.0 if success else -self.step_cost
        return observation, reward, success, False, {"is_success": success, "is_broken": broken}
