"""MinAtar: minatar/environments/*.py (`pip install "equirl[minatar]"`).

Observations are bool ``[row, column, channel]``, 10 × 10; the six actions are none, left, up,
right, down, fire; ``-v1`` keeps those that do something (minatar/gym.py). What the sticky
actions repeat (`Environment.last_action`) is hidden state and mirrored with the rest.

SpaceInvaders is not registered, because it has no mirror: when two columns of aliens are equally
near, the left one always shoots (`_nearest_alien` sorts ``range(10)`` by distance, and sorting is
stable). Nothing else in it tells left from right, so a mirror with the alien_left and alien_right
channels swapped is wrong only then: `known_symmetries.almost` declares it so for a game that is
broken on purpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from equirl.envs.registry import register_symmetry

Image = npt.NDArray[Any]

LEFT_RIGHT = [0, 3, 2, 1, 4, 5]
"""The six actions in a mirror."""

UP_DOWN = [0, 1, 4, 3, 2, 5]
"""The six actions upside down."""


class MirroredDraws:
    """The random numbers of a game seen in a mirror, from the same generator.

    The first `rand` after a `randint`, and every other one after that, decides on which side
    something appears: u becomes 1 − u, as uniform as before.

    Args:
        generator: the game's random generator.
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self._numbers_drawn = 0

    def rand(self, *shape: int) -> Any:
        """Uniform on [0, 1)."""
        decides_side = self._numbers_drawn % 2 == 0
        self._numbers_drawn += 1
        drawn = self.generator.rand(*shape)
        return 1 - drawn if decides_side else drawn

    def randint(self, *args: Any, **kwargs: Any) -> Any:
        """Speeds, and rows to appear in."""
        self._numbers_drawn = 0
        return self.generator.randint(*args, **kwargs)


class UpsideDownDraws:
    """The random numbers of Asterix upside down, from the same generator.

    Args:
        generator: the game's random generator.
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def rand(self) -> float:
        """Decides side and kind of what appears."""
        return float(self.generator.rand())

    def randint(self, count: int) -> int:
        """In which of the free rows, counted from the top, something appears."""
        return count - 1 - int(self.generator.randint(count))


def mirror_image(image: Image) -> Image:
    """Swap left and right."""
    return image[:, ::-1]


def flip_image(image: Image) -> Image:
    """Swap up and down."""
    return image[::-1]


# breakout.py: channels paddle, ball, trail, brick. Ball directions: 0 up left, 1 up right,
# 2 down right, 3 down left. The paddle starts left of the middle, which matters to the initial
# state only.
def mirror_breakout(env: Any) -> None:
    """Paddle, ball and bricks."""
    game = _game(env, LEFT_RIGHT)
    game.pos, game.ball_x, game.last_x = 9 - game.pos, 9 - game.ball_x, 9 - game.last_x
    game.ball_dir = [1, 0, 3, 2][game.ball_dir]
    game.brick_map = game.brick_map[:, ::-1].copy()


# asterix.py: channels player, enemy, trail, gold. An entity is [x, y, moves right, is gold]; the
# i-th of the eight runs in row i + 1, and the player stays in rows 1 … 8 too. Rows do not touch
# each other, so up and down are alike as well as left and right.
def mirror_asterix(env: Any) -> None:
    """Player, entities, and the side where new ones appear."""
    game = _game(env, LEFT_RIGHT)
    game.player_x = 9 - game.player_x
    game.entities = [e and [9 - e[0], e[1], not e[2], e[3]] for e in game.entities]
    game.random = MirroredDraws(game.random)


def flip_asterix(env: Any) -> None:
    """Player, entities, and the row where new ones appear."""
    game = _game(env, UP_DOWN)
    game.player_y = 9 - game.player_y
    game.entities = [e and [e[0], 9 - e[1], e[2], e[3]] for e in reversed(game.entities)]
    game.random = UpsideDownDraws(game.random)


# freeway.py: channels chicken, car, speed1 … speed5. The chicken walks in column 4 and cars that
# leave on one side come back on the other, so the mirror is the one of a ring of ten columns that
# keeps column 4 in place. Actions move up and down only. (Every lane has this mirror for itself;
# 2⁸ elements would be no use.)
RING_MIRROR = (8 - np.arange(10)) % 10


def mirror_freeway_image(image: Image) -> Image:
    """Column c becomes column 8 − c, modulo 10."""
    return image[:, RING_MIRROR]


def mirror_freeway(env: Any) -> None:
    """Cars are [x, y, timer, signed speed]; so are those drawn when the chicken gets across."""
    game = env.game.env
    game.cars = [[int(RING_MIRROR[x]), y, timer, -speed] for x, y, timer, speed in game.cars]
    game.random = MirroredDraws(game.random)


# seaquest.py: channels sub_front, sub_back, friendly_bullet, trail, enemy_bullet, enemy_fish,
# enemy_sub, oxygen_guage, diver_guage, diver. Both gauges fill from one side and stay as they are.
GAUGES = [7, 8]


def mirror_seaquest_image(image: Image) -> Image:
    """Swap left and right in the sea, not in the gauges."""
    mirrored = image[:, ::-1].copy()
    mirrored[..., GAUGES] = image[..., GAUGES]
    return mirrored


def mirror_seaquest(env: Any) -> None:
    """Everything that swims is [x, y, moves right, timers …]."""
    game = _game(env, LEFT_RIGHT)
    game.sub_x, game.sub_or = 9 - game.sub_x, not game.sub_or
    for name in ("f_bullets", "e_bullets", "e_fish", "e_subs", "divers"):
        moved = [[9 - x, y, not right, *rest] for x, y, right, *rest in getattr(game, name)]
        setattr(game, name, moved)
    game.random = MirroredDraws(game.random)


# space_invaders.py: channels cannon, alien, alien_left, alien_right, friendly_bullet, enemy_bullet.
DIRECTIONS_SWAPPED = [0, 1, 3, 2, 4, 5]


def mirror_space_invaders_image(image: Image) -> Image:
    """Swap left and right, and the two channels that say where aliens move to."""
    return image[:, ::-1, DIRECTIONS_SWAPPED]


def mirror_space_invaders(env: Any) -> None:
    """Cannon, bullets and aliens; which of two equally near aliens shoots stays the left one."""
    game = _game(env, LEFT_RIGHT)
    game.pos, game.alien_dir = 9 - game.pos, -game.alien_dir
    for name in ("f_bullet_map", "e_bullet_map", "alien_map"):
        setattr(game, name, getattr(game, name)[:, ::-1].copy())


def _game(env: Any, actions: list[int]) -> Any:
    """The game inside the environment, once the action that may be repeated is moved."""
    env.game.last_action = actions[env.game.last_action]
    return env.game.env


for version, breakout_actions, asterix_left_right, asterix_up_down, freeway_actions in (
    ("v0", LEFT_RIGHT, LEFT_RIGHT, UP_DOWN, [0, 1, 2, 3, 4, 5]),
    ("v1", [0, 2, 1], LEFT_RIGHT[:5], UP_DOWN[:5], [0, 1, 2]),
):
    register_symmetry(
        f"MinAtar/Breakout-{version}",
        {"mirror": (mirror_image, breakout_actions)},
        state_maps={"mirror": mirror_breakout},
    )
    register_symmetry(
        f"MinAtar/Asterix-{version}",
        {"mirror": (mirror_image, asterix_left_right), "flip": (flip_image, asterix_up_down)},
        state_maps={"mirror": mirror_asterix, "flip": flip_asterix},
    )
    register_symmetry(
        f"MinAtar/Freeway-{version}",
        {"mirror": (mirror_freeway_image, freeway_actions)},
        state_maps={"mirror": mirror_freeway},
    )
    register_symmetry(
        f"MinAtar/Seaquest-{version}",
        {"mirror": (mirror_seaquest_image, LEFT_RIGHT)},
        state_maps={"mirror": mirror_seaquest},
    )
