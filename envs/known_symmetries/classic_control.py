"""Gymnasium's classic control: gymnasium/envs/classic_control/."""

from typing import Any

import numpy as np

from equirl.envs.registry import register_symmetry


def mirror_cartpole(env: Any) -> None:
    """CartPole's state is its observation, in float64 or as a tuple."""
    env.state = -np.asarray(env.state)


def mirror_acrobot(env: Any) -> None:
    """Acrobot's state is θ₁, θ₂, dθ₁/dt, dθ₂/dt."""
    env.state = -np.asarray(env.state)


def mirror_pendulum(env: Any) -> None:
    """Pendulum's state is θ, dθ/dt."""
    env.state = -np.asarray(env.state)


# cartpole.py: cart position, cart velocity, pole angle, pole angular velocity; actions push left,
# push right.
for cartpole in ("CartPole-v0", "CartPole-v1"):
    register_symmetry(
        cartpole,
        {"mirror": ([-1, -1, -1, -1], [1, 0])},
        state_maps={"mirror": mirror_cartpole},
    )

# acrobot.py: cos θ₁, sin θ₁, cos θ₂, sin θ₂, dθ₁/dt, dθ₂/dt; actions torque -1, 0, +1.
register_symmetry(
    "Acrobot-v1",
    {"mirror": ([1, -1, 1, -1, -1, -1], [2, 1, 0])},
    state_maps={"mirror": mirror_acrobot},
)

# pendulum.py: cos θ, sin θ, dθ/dt; the action is the torque.
register_symmetry(
    "Pendulum-v1", {"mirror": ([1, -1, -1], [-1])}, state_maps={"mirror": mirror_pendulum}
)
