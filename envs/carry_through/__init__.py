"""Carrying a symmetry through the wrappers between an environment and its policy.

A wrapper that turns observations s into W(s) turns the action of g into W∘g∘W⁻¹. How a known
wrapper carries a symmetry is said once, by its class (`wrappers`); every other wrapper may say it
itself::

    class Halved(gym.ObservationWrapper):
        def observation(self, observation):
            return observation / 2

        def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
            return lifted(symmetry, self.observation_space, lambda g: lambda s: g(2 * s) / 2)

``symmetry`` is that of what goes in, the result that of what comes out. A wrapper that leaves
observations and actions as they are returns ``symmetry``. SB3's ``VecEnvWrapper`` may have
the method, too.
"""

from equirl.envs.carry_through.observations import lifted
from equirl.envs.carry_through.recognition import known_class
from equirl.envs.carry_through.wrappers import (
    cannot_carry,
    carried_through,
    is_transparent,
    not_normalized,
)

__all__ = [
    "cannot_carry",
    "carried_through",
    "is_transparent",
    "known_class",
    "lifted",
    "not_normalized",
]
