"""How each known wrapper carries a symmetry: one table, by class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from equirl.envs.carry_through import actions, observations
from equirl.envs.carry_through.recognition import known_class, loaded_classes, redefined
from equirl.envs.transposed_images import with_channels_first
from equirl.errors import SymmetryError
from equirl.shown import shown
from equirl.symmetry import Symmetry

Carry = Callable[[Symmetry, Any], Symmetry]
"""The symmetry of what comes out of a wrapper, from that of what goes in and the wrapper."""


def carried_through(symmetry: Symmetry, layer: Any) -> Symmetry:
    """The symmetry of what comes out of a wrapper, given that of what goes in.

    Args:
        symmetry: of the observations and actions inside.
        layer: the wrapper, Gymnasium's or SB3's (``VecEnvWrapper``).

    Raises:
        SymmetryError: the wrapper may change observations or actions in a way that is not known
            to keep the symmetry; the message says what to do.
    """
    if symmetry.group.order == 1:  # nothing moves, whatever the wrapper does
        prefix = "single_" if isinstance(layer, gym.vector.VectorEnv) else ""
        seen, done = (getattr(layer, f"{prefix}{of}_space") for of in ("observation", "action"))
        return Symmetry.trivial(seen, done)
    known = loaded_classes(KNOWN)
    for kind in type(layer).__mro__:
        if "carry_symmetry" in vars(kind) or kind in known:
            break
    else:
        raise cannot_carry(layer)
    carry = KNOWN.get(known.get(kind, ""), unchanged)
    changed = redefined(layer, kind, helpers=carry is not unchanged)
    if changed and kind in (gym.Wrapper, gym.vector.VectorWrapper):  # the bases of all wrappers
        raise cannot_carry(layer)
    if changed:
        raise cannot_carry(layer, f"defines {changed[0]} in its own way")
    if "carry_symmetry" in vars(kind):
        return _checked(layer.carry_symmetry(symmetry), layer)
    if carry is not unchanged and not _applies_gymnasiums_function(layer):
        raise cannot_carry(layer, "applies a function of its own")
    return carry(symmetry, layer)


def is_transparent(layer: Any) -> bool:
    """Whether a known wrapper hands observations and actions on as they are."""
    known = loaded_classes(reference for reference, carry in KNOWN.items() if carry is unchanged)
    kind = known_class(layer, loaded_classes(KNOWN))
    return kind in known


def cannot_carry(layer: Any, why: str = "may change observations or actions") -> SymmetryError:
    """The error for a wrapper that is not known to keep a symmetry."""
    kind = type(layer)
    name = kind.__name__
    # A user's own Monitor is not SB3's.
    known = any(reference.endswith(f":{name}") for reference in KNOWN)
    shown = f"{kind.__module__}.{name}" if known else name
    outside = (
        "policy_kwargs=dict(symmetry=Symmetry.from_generators(env.observation_space, "
        "env.action_space, generators))"
        if _is_vectorized(layer)
        else f"SymmetryWrapper({name}(…), symmetry)"
    )
    return SymmetryError(
        f"{shown} {why}, and the symmetry of what is inside it cannot be carried through: declare "
        f"the symmetry of what comes out, {outside}, or define {name}.carry_symmetry(symmetry)"
    )


def unchanged(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of a wrapper that hands observations and actions on as they are."""
    inside = layer.venv if _is_vectorized(layer) else layer.env
    for name in ("observation_space", "action_space"):
        if getattr(layer, name) != getattr(inside, name):
            raise cannot_carry(layer, f"has another {name} than what is inside it")
    return symmetry


def not_normalized(symmetry: Symmetry, layer: Any) -> Symmetry:
    """Of SB3's ``VecNormalize``, which keeps no symmetry of observations that it normalises.

    Raises:
        SymmetryError: it does normalise them.
    """
    if layer.norm_obs:
        raise SymmetryError(
            f"{type(layer).__name__} normalises observations by statistics that are not symmetric: "
            "use equirl.agents.SymmetricVecNormalize (from_plain takes statistics over), or "
            "norm_obs=False"
        )
    return symmetry


def _resized(symmetry: Symmetry, layer: Any) -> Symmetry:
    raise SymmetryError(
        "AtariWrapper, or its WarpFrame, makes other images of those that the symmetry inside it "
        "moves: declare it for what comes out, SymmetryWrapper(AtariWrapper(env), symmetry)"
    )


def _transposed(symmetry: Symmetry, layer: Any) -> Symmetry:
    return with_channels_first(symmetry, layer.observation_space)


def _applies_gymnasiums_function(layer: Any) -> bool:
    """Whether a wrapper keeps the function that Gymnasium's constructor has given it."""
    function = vars(layer).get("func")
    module = None if function is None else getattr(function, "__module__", None)
    return function is None or str(module).startswith("gymnasium.")


def _is_vectorized(layer: Any) -> bool:
    return "venv" in vars(layer)


def _checked(symmetry: Any, layer: Any) -> Symmetry:
    """What a wrapper's own carry_symmetry returned, if that is a symmetry of what comes out."""
    name = f"{type(layer).__name__}.carry_symmetry"
    if not isinstance(symmetry, Symmetry):
        raise SymmetryError(f"{name} must return a Symmetry, got {type(symmetry).__name__}")
    for declared, actual in (
        (symmetry.observation_space, layer.observation_space),
        (symmetry.action_space, layer.action_space),
    ):
        if declared != actual:
            raise SymmetryError(
                f"{name} returned a symmetry of {shown(declared)}, where {shown(actual)} comes out"
            )
    return symmetry


KNOWN: dict[str, Carry] = {
    **dict.fromkeys(
        (
            "gymnasium:RewardWrapper",
            "gymnasium:Wrapper",
            "gymnasium.wrappers:Autoreset",
            "gymnasium.wrappers:ClipReward",
            "gymnasium.wrappers:HumanRendering",
            "gymnasium.wrappers:NormalizeReward",
            "gymnasium.wrappers:OrderEnforcing",
            "gymnasium.wrappers:PassiveEnvChecker",
            "gymnasium.wrappers:RecordEpisodeStatistics",
            "gymnasium.wrappers:RecordVideo",
            "gymnasium.wrappers:RenderCollection",
            "gymnasium.wrappers:RepeatAction",
            "gymnasium.wrappers:StickyAction",  # repeats an action that was taken
            "gymnasium.wrappers:TimeLimit",
            "gymnasium.wrappers.common:TimeLimit",  # where RL Zoo has put another in its place
            "gymnasium.wrappers:TransformReward",
            "gymnasium.vector:VectorWrapper",
            "gymnasium.vector:VectorRewardWrapper",
            "gymnasium.wrappers.vector:ClipReward",
            "gymnasium.wrappers.vector:DictInfoToList",
            "gymnasium.wrappers.vector:HumanRendering",
            "gymnasium.wrappers.vector:NormalizeReward",
            "gymnasium.wrappers.vector:RecordEpisodeStatistics",
            "gymnasium.wrappers.vector:RecordVideo",
            "gymnasium.wrappers.vector:TransformReward",
            "rl_zoo3.gym_patches:PatchedTimeLimit",
            "stable_baselines3.common.atari_wrappers:ClipRewardEnv",
            # These play actions of their own before an episode begins, and then hand all on.
            "stable_baselines3.common.atari_wrappers:EpisodicLifeEnv",
            "stable_baselines3.common.atari_wrappers:FireResetEnv",
            "stable_baselines3.common.atari_wrappers:NoopResetEnv",
            "stable_baselines3.common.monitor:Monitor",
            "stable_baselines3.common.vec_env:VecCheckNan",
            "stable_baselines3.common.vec_env:VecMonitor",
            "stable_baselines3.common.vec_env:VecVideoRecorder",
        ),
        unchanged,
    ),
    "gymnasium.wrappers:ClipAction": actions.clipped,
    "gymnasium.wrappers:DelayObservation": observations.delayed,
    "gymnasium.wrappers:DtypeObservation": observations.cast,
    "gymnasium.wrappers:FilterObservation": observations.filtered,
    "gymnasium.wrappers:FlattenObservation": observations.flattened,
    "gymnasium.wrappers:FrameStackObservation": observations.stacked_along_new_axis,
    "gymnasium.wrappers:MaxAndSkipObservation": observations.maximum_of_frames,
    "gymnasium.wrappers:RescaleAction": actions.rescaled,
    "gymnasium.wrappers:RescaleObservation": observations.rescaled,
    "gymnasium.wrappers:ReshapeObservation": observations.reshaped,
    "minigrid.wrappers:ImgObsWrapper": observations.image_alone,
    "stable_baselines3.common.atari_wrappers:MaxAndSkipEnv": observations.maximum_of_frames,
    "stable_baselines3.common.atari_wrappers:StickyActionEnv": actions.sticky_from_zero,
    "stable_baselines3.common.atari_wrappers:WarpFrame": _resized,
    "stable_baselines3.common.vec_env:VecExtractDictObs": observations.extracted,
    "stable_baselines3.common.vec_env:VecFrameStack": observations.stacked_along_channels,
    "stable_baselines3.common.vec_env:VecNormalize": not_normalized,
    "stable_baselines3.common.vec_env:VecTransposeImage": _transposed,
}
"""By ``module:Class``, since no module is imported for it. A subclass that leaves `BEHAVIOUR` alone
is carried as its class is."""
