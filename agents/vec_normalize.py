"""`SymmetricVecNormalize`: observation statistics that keep the symmetry exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from equirl.actions import Affines, Lookups, Maps, SignedPermutations
from equirl.agents.saving.reading.saved_normalisation import SETTINGS, read_normalisation
from equirl.envs import Declaration, symmetry_of
from equirl.envs.carry_through import lifted, not_normalized
from equirl.envs.transposed_images import with_channels_first
from equirl.errors import AgentError, SymmetryError
from equirl.symmetry import Symmetry


class OrbitMeanStd(RunningMeanStd):
    """Running mean and variance of the orbits of what is seen.

    The mean is a fixed point of G, gμ = μ, and the variance is the same for all entries that G
    exchanges or mixes, so that normalising commutes with the group up to the offsets of its maps.

    Args:
        shape: of one observation.
        symmetry: of the observations.
    """

    def __init__(self, shape: tuple[int, ...], symmetry: Symmetry) -> None:
        super().__init__(shape=shape)
        self.symmetry = symmetry
        (maps,) = symmetry.observations.maps
        self._classes = _classes(maps)
        self._make_invariant()  # before anything is seen the mean is 0, which may not be fixed

    def update(self, arr: npt.NDArray[Any]) -> None:
        """Count a batch of observations ``[batch, *shape]``, each with its whole orbit."""
        orbit = self.symmetry.orbit(arr.astype(np.float64))
        super().update(orbit.reshape(-1, *arr.shape[1:]))
        # The mean is fixed already, up to the rounding of the running sums.
        self._make_invariant()

    def combine(self, other: RunningMeanStd) -> None:
        """Count what another has seen, each with its whole orbit."""
        invariant = other
        if not isinstance(other, OrbitMeanStd):
            invariant = OrbitMeanStd(self.mean.shape, self.symmetry)
            invariant.take_over(other)
        super().combine(invariant)
        self._make_invariant()

    def copy(self) -> OrbitMeanStd:
        """The same statistics, apart."""
        copied = OrbitMeanStd(self.mean.shape, self.symmetry)
        copied.mean, copied.var, copied.count = self.mean.copy(), self.var.copy(), self.count
        return copied

    def take_over(self, plain: RunningMeanStd) -> None:
        """Begin with statistics that are not invariant, averaged over the group."""
        (maps,) = self.symmetry.observations.maps
        means = self.symmetry.orbit(plain.mean[None])[:, 0]
        variances = _moved_variances(maps, plain.var.ravel()).reshape(means.shape)
        self.mean = means.mean(axis=0)
        self.var = (variances + (means - self.mean) ** 2).mean(axis=0)
        self.count = plain.count * self.symmetry.group.order
        self._make_invariant()

    def _make_invariant(self) -> None:
        self.mean = self.symmetry.orbit(self.mean[None])[:, 0].mean(axis=0)
        totals = np.bincount(self._classes, weights=self.var.ravel())
        counts = np.maximum(np.bincount(self._classes), 1)
        self.var = (totals / counts)[self._classes].reshape(self.var.shape)


class SymmetricVecNormalize(VecNormalize):
    """SB3's `VecNormalize` with statistics that are invariant under the symmetry.

    Plain `VecNormalize` learns another mean and variance for the left than for the right, which
    breaks any symmetry silently; `EquivariantDQN` refuses it.

    Args:
        venv: the vectorized environments, with a symmetry.
        symmetry: of their observations; or generators, as `symmetry_of` takes them; None finds it.
        kwargs: everything `VecNormalize` takes.

    Raises:
        SymmetryError: no symmetry is known, observations are dicts or bool, or entries are mixed
            (rotated) while ``clip_obs`` clips them one by one.

    Example:
        >>> import gymnasium as gym
        >>> from stable_baselines3.common.vec_env import DummyVecEnv
        >>> env = SymmetricVecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
        >>> _ = env.reset()
        >>> env.obs_rms.mean
        array([0., 0., 0., 0.])
    """

    def __init__(
        self, venv: VecEnv, symmetry: Symmetry | Declaration | None = None, **kwargs: Any
    ) -> None:
        super().__init__(venv, **kwargs)
        self.symmetry = symmetry if isinstance(symmetry, Symmetry) else symmetry_of(venv, symmetry)
        if not self.norm_obs:
            return
        if isinstance(venv.observation_space, spaces.Dict):
            raise SymmetryError(
                "SymmetricVecNormalize takes one array per observation, not a Dict: normalise "
                "inside the environment, or set norm_obs=False"
            )
        # Turned, where SB3 has turned images already.
        self.symmetry = with_channels_first(self.symmetry, venv.observation_space)
        if any(isinstance(maps, Lookups) for maps in self.symmetry.observations.maps):
            raise SymmetryError(
                "SymmetricVecNormalize takes numbers, not bool or what the symmetry renames: put "
                "DtypeObservation(env, np.float32) around the environment, or set norm_obs=False"
            )
        mixed = any(isinstance(maps, Affines) for maps in self.symmetry.observations.maps)
        if mixed and np.isfinite(self.clip_obs):
            raise SymmetryError(
                "the symmetry mixes entries of the observation, and clipping them one by one "
                "breaks it: set clip_obs=float('inf')"
            )
        statistics: Any = OrbitMeanStd(venv.observation_space.shape or (), self.symmetry)
        self.obs_rms = statistics

    @staticmethod
    def load(load_path: str, venv: VecEnv) -> SymmetricVecNormalize:
        """What `save` has written, around these environments.

        Unpickles the file, as SB3's own `load` does: load only what you trust.

        Raises:
            AgentError: the file holds a plain `VecNormalize`, whose statistics are not symmetric.
        """
        loaded = VecNormalize.load(load_path, venv)
        if not isinstance(loaded, SymmetricVecNormalize):
            raise AgentError(
                f"{load_path} holds a plain VecNormalize, whose statistics are not symmetric: "
                f"SymmetricVecNormalize.from_plain({str(load_path)!r}, venv) takes them over"
            )
        return loaded

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        """The symmetry of normalised observations: that of deviations from a fixed point.

        With gμ = μ and equal variances, the offset of g drops out and its linear part is left.

        Raises:
            SymmetryError: the statistics were made invariant under another symmetry.
        """
        if not self.norm_obs:
            return symmetry
        if symmetry != self.symmetry:
            raise SymmetryError(
                f"SymmetricVecNormalize has statistics that are invariant under {self.symmetry}, "
                f"not under {symmetry}: give it the symmetry that the agent gets"
            )
        zero = np.zeros(symmetry.observation_space.shape or ())

        def linear(g: Any) -> Any:
            return lambda observation: g(observation) - g(zero)

        return lifted(symmetry, self.observation_space, linear)

    @classmethod
    def from_plain(
        cls,
        plain: VecNormalize | str | Path,
        venv: VecEnv | None = None,
        symmetry: Symmetry | None = None,
    ) -> SymmetricVecNormalize:
        """Take over the settings of a plain `VecNormalize`, and its statistics averaged over G.

        With mean μ and variances of what was seen, the new ones are those of its orbit, with each g
        equally likely: mean_g gμ, and mean_g (Var gs + (gμ)²) less the square of the new mean.
        Exactly invariant, whatever the old ones were. Where g mixes entries, Var gs is taken as if
        they had been uncorrelated, since a `VecNormalize` keeps no covariances.

        Args:
            plain: the wrapper, or the file that its ``save`` has written. Of a file the numbers
                are read and no code in it is run: only NumPy's arrays are rebuilt.
            venv: the environments to wrap; None takes those that ``plain`` wraps.
            symmetry: as for the class.

        Raises:
            AgentError: there is no such file, or it holds something else.
            SymmetryError: as for the class, or the observations have another shape.

        Example:
            >>> import gymnasium as gym
            >>> from stable_baselines3.common.vec_env import DummyVecEnv
            >>> plain = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
            >>> plain.obs_rms.mean = np.array([1.0, 0.0, 0.0, 0.0])
            >>> SymmetricVecNormalize.from_plain(plain).obs_rms.mean
            array([0., 0., 0., 0.])
        """
        if isinstance(plain, VecNormalize):
            venv = plain.venv if venv is None else venv
            settings: Any = {name: getattr(plain, name) for name in SETTINGS}
            returns: Any = plain.ret_rms
            seen: Any = getattr(plain, "obs_rms", None)
        else:
            saved = read_normalisation(plain)
            settings, returns, seen = saved.settings, saved.returns, saved.observations.get(None)
        if venv is None:
            raise SymmetryError("a file holds no environments: from_plain(path, venv)")
        envs = cls(venv, symmetry, **settings)
        envs.ret_rms = _statistics(returns)
        if envs.norm_obs:
            old = _statistics(seen)
            if old.mean.shape != venv.observation_space.shape:
                raise SymmetryError(
                    f"the statistics are of observations of shape {old.mean.shape}, the "
                    f"environments have {venv.observation_space}"
                )
            statistics: Any = envs.obs_rms
            statistics.take_over(old)
        return envs


def _statistics(saved: Any) -> RunningMeanStd:
    """The running mean and variance of a wrapper, or of a file."""
    try:
        statistics = RunningMeanStd(shape=np.shape(saved.mean))
        statistics.mean = np.array(saved.mean, dtype=np.float64)
        statistics.var = np.array(saved.var, dtype=np.float64)
        statistics.count = float(saved.count)
    except (AttributeError, TypeError, ValueError) as error:
        raise AgentError(
            f"expected a running mean and variance of one array, got {type(saved).__name__}"
        ) from error
    return statistics


def check_normalization(env: Any, symmetry: Any = None) -> None:
    """Refuse plain `VecNormalize`, whoever declared the symmetry: its statistics do not have it.

    Args:
        env: the vectorized environments.
        symmetry: that of the agent; the trivial one leaves nothing to break.

    Raises:
        SymmetryError: the environment normalises observations by it.
    """
    if isinstance(symmetry, Symmetry) and symmetry.group.order == 1:
        return
    while isinstance(env, VecEnvWrapper):
        is_plain = isinstance(env, VecNormalize) and not isinstance(env, SymmetricVecNormalize)
        if is_plain:
            not_normalized(symmetry, env)
        env = env.venv


def _moved_variances(maps: Maps, variances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``[|G|, n]``: the variances of the entries of gs, from those of s, if uncorrelated."""
    if isinstance(maps, SignedPermutations):
        moved: npt.NDArray[np.float64] = variances[maps.index]
        return moved
    assert isinstance(maps, Affines)
    squared: npt.NDArray[np.float64] = (maps.matrix**2) @ variances
    return squared


def _classes(maps: Maps) -> npt.NDArray[np.int64]:
    """``[n]``: the same number for entries that the group exchanges or mixes."""
    if isinstance(maps, SignedPermutations):
        smallest: npt.NDArray[np.int64] = maps.index.min(axis=0)
        return smallest
    assert isinstance(maps, Affines)
    linked = (np.abs(maps.matrix) > 1e-9).any(axis=0)
    linked |= linked.T | np.eye(maps.entries, dtype=bool)
    classes = np.arange(maps.entries)
    while True:  # mixing may link entries in several steps
        further = np.where(linked, classes, maps.entries).min(axis=1)
        if np.array_equal(further, classes):
            return classes
        classes = further
