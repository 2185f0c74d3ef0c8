"""``equirl check``: is the declared symmetry real, or which symmetries are there?"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.console import Console
from tqdm import tqdm

from equirl.actions import as_leaves
from equirl.commands.environments import check_run_dir, environment_maker, imported
from equirl.commands.found import discover_in_model, discover_in_play, show
from equirl.commands.mistakes import MISTAKES
from equirl.configs.fields import check_values
from equirl.configs.schema import CheckConfig
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.envs.registry import registered_remark, registered_state_maps, registered_tolerance
from equirl.envs.running.guarded import GuardedEnv
from equirl.errors import ConfigError, RunError, SymmetryError
from equirl.symmetry import Symmetry
from equirl.verification.boards import Board
from equirl.verification.exact import check_symmetry, steps_of_play
from equirl.verification.shown_report import as_table, conclusion, explained
from equirl.verification.verdicts import QUANTITIES, CounterExample, SymmetryReport, Verdict

EXIT_CODES = {"holds": 0, "refused": 1, "undecided": 3, "no verdict": 4}

STEPS_TO_BLAME = 2000
"""So many random steps of the environment by itself, to say what it does wrong."""

FIRST_STEPS = 200
"""After this many transitions, say how long the play will take."""


def check(config: DictConfig) -> None:
    """Check or discover as configured; exits with 0 if it holds, 1 if refused, 3 if undecided.

    Raises:
        RunError: something failed on the way, in the environment most likely; with exit code 4,
            since 1, Python's own, would be read as a refusal.
    """
    settings = cast(CheckConfig, OmegaConf.to_object(config))
    check_values(settings)
    check_run_dir(Path(settings.run_dir))
    if settings.transitions < 2000:
        raise ConfigError(f"transitions must be at least 2000, got {settings.transitions}")
    if not 0 < settings.level < 1:
        raise ConfigError(f"level must be between 0 and 1, got {settings.level}")
    if settings.budget is not None and not settings.budget > 0:
        raise ConfigError(f"budget must be above 0 seconds, got {settings.budget}")
    if settings.discover not in (True, False, "model"):
        raise ConfigError(f"discover must be true, false or model, got {settings.discover!r}")
    make_env, symmetry = environment_maker(settings.env, needs_symmetry=not settings.discover)
    try:
        _look(settings, make_env, symmetry)
    except (*MISTAKES, RunError):
        raise
    except Exception as error:
        raise _no_verdict(error, make_env, settings.seed) from error


def _no_verdict(error: Exception, make_env: Callable[[], gym.Env[Any, Any]], seed: int) -> RunError:
    """Says what the environment does wrong, by itself, or prints where else something failed."""
    env = GuardedEnv(make_env())
    env.action_space.seed(seed)
    try:
        env.reset(seed=seed)
        for _ in range(STEPS_TO_BLAME):
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
    except RunError as fault:
        return RunError(f"no verdict: {fault}", EXIT_CODES["no verdict"])
    traceback.print_exception(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return RunError(f"no verdict, since this failed: {what}", EXIT_CODES["no verdict"])


def _look(
    settings: CheckConfig, make_env: Callable[[], gym.Env[Any, Any]], symmetry: Symmetry | None
) -> None:
    run_dir = Path(settings.run_dir)
    if settings.discover == "model":
        discover_in_model(str(settings.env.id), make_env())
        return
    if settings.discover:
        found = discover_in_play(
            str(settings.env.id),
            make_env(),
            settings.transitions,
            settings.seed,
            settings.level,
            settings.progress,
        )
        run_dir.mkdir(parents=True)
        (run_dir / "report.json").write_text(json.dumps(found, indent=2) + "\n")
        return
    assert symmetry is not None
    env = make_env()
    if settings.show:
        show(env, symmetry)
        return
    state_maps, tolerance, remark = _state_maps(env, symmetry)
    if settings.env.state_maps is not None:
        state_maps, remark = _given_state_maps(settings.env.state_maps), ""
    total = steps_of_play(symmetry, state_maps, settings.transitions, tolerance)
    with _progress(total, settings.progress) as on_step:
        report = check_symmetry(
            env,
            symmetry,
            state_maps,
            make_env=make_env,
            transitions=settings.transitions,
            level=settings.level,
            tolerance=tolerance,
            seed=settings.seed,
            on_step=on_step,
            seconds=settings.budget,
        )
    if state_maps and remark:
        report = replace(report, remarks=(*report.remarks, remark))
    run_dir.mkdir(parents=True)
    title = f"{settings.env.id}: {', '.join(symmetry.group.names[1:9])}"
    if report.verdicts:
        Console(highlight=False).print(as_table(report, title))
    path = run_dir / "report.json"
    path.write_text(json.dumps(_as_json(report, settings), indent=2) + "\n")
    for verdict in report.verdicts:
        if verdict.counter_example is not None and verdict.quantity in QUANTITIES:
            print(explained(verdict))
            _draw_if_picture(verdict, run_dir)
    for remark in report.remarks:
        print(remark)
    print(f"{conclusion(report)}; report: {path}")
    if not report.holds:
        sys.exit(EXIT_CODES[report.outcome])


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[], object]]:
    """A bar, and after the first steps one line with the time that the play will take."""
    begun = time.monotonic()
    with tqdm(total=total, unit="step", disable=not shown, leave=False) as bar:
        done = 0

        def on_step() -> None:
            nonlocal done
            done += 1
            bar.update()
            if shown and done == FIRST_STEPS:
                seconds = (time.monotonic() - begun) / done * total
                line = f"about {seconds:.0f} s of play for {total} steps, then the comparison"
                bar.write(line, file=sys.stderr)

        yield on_step


def _given_state_maps(reference: str) -> dict[str, Any]:
    """What ``env.state_maps=module:object`` names: a dict of functions by generator name."""
    maps = imported(reference)
    if not isinstance(maps, Mapping) or not all(callable(one) for one in maps.values()):
        raise ConfigError(
            f"{reference} must be a dict of functions by generator name, each putting the "
            f"unwrapped environment from s into gs, got {maps!r:.80}"
        )
    return dict(maps)


def _state_maps(env: gym.Env[Any, Any], symmetry: Symmetry) -> tuple[dict[str, Any], float, str]:
    """The registered state maps that carry out what this symmetry says of observations, by name.

    They realise the *registered* maps: a declaration under test must agree with those about
    observations (not about actions) for them to be of use.
    """
    spec = env.unwrapped.spec
    env_id = spec.id if spec is not None else None
    maps = registered_state_maps(env_id)
    inner = env.env if isinstance(env, SymmetryWrapper) else env
    try:
        registered = symmetry_of(inner)
    except SymmetryError:
        return {}, registered_tolerance(env_id), ""
    points = [env.observation_space.sample() for _ in range(4)]
    usable = {
        name: state_map
        for name in (symmetry.group.names[g] for g in symmetry.group.generators)
        for known, state_map in maps.items()
        if known in registered.group.names
        and all(_move_alike((symmetry, name), (registered, known), point) for point in points)
    }
    return usable, registered_tolerance(env_id), registered_remark(env_id)


def _move_alike(one: tuple[Symmetry, str], other: tuple[Symmetry, str], observation: Any) -> bool:
    """Whether two elements, by whatever name, do the same to an observation."""
    leaves = one[0].observations.leaves
    moved = (s.transform_observation(name, observation) for s, name in (one, other))
    pairs = zip(*(as_leaves(each, leaves) for each in moved), strict=True)
    return all(np.allclose(mine, theirs) for mine, theirs in pairs)


def _draw_if_picture(verdict: Verdict, run_dir: Path) -> None:
    """Save a counter-example, and the board of where it fails, as pictures of images and boards."""
    example = verdict.counter_example
    name = re.sub(r"[/\\]", "-", f"{verdict.generator}-{verdict.quantity}")
    if verdict.board is not None:
        path = run_dir / f"{name}-where.png"
        Image.fromarray(_as_picture(np.maximum(np.nan_to_num(verdict.board.shares), 0))).save(path)
        print(f"  the same board: {path}")
    if example is None or np.ndim(example.observation) not in (2, 3):
        return
    path = run_dir / f"{name}.png"
    _draw(example, path)
    print(f"  s, s', gs, what should follow, what did: {path}")


def _draw(example: CounterExample, path: Path) -> None:
    """Images side by side: s, s', gs, what the symmetry says follows from it, and what did."""
    frames = [example.observation, example.next_observation, example.moved_observation]
    if np.ndim(example.expected) >= 2:
        frames += [example.expected, example.found]
    panels = [_as_picture(np.asarray(frame)) for frame in frames]
    height = max(panel.shape[0] for panel in panels)
    gap = np.full((height, 8, 3), 255, dtype=np.uint8)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0))) for p in panels]
    strip = np.concatenate([part for panel in padded for part in (panel, gap)][:-1], axis=1)
    Image.fromarray(strip).save(path)


def _as_picture(frame: Any) -> Any:
    """``[height, width(, channels)]`` as an RGB picture about 160 pixels high."""
    planes = frame[..., None] if frame.ndim == 2 else frame
    colours = np.random.default_rng(3).uniform(0.2, 1, size=(planes.shape[2], 3))
    if planes.shape[2] in (1, 3):
        colours = np.ones((1, 3)) if planes.shape[2] == 1 else np.eye(3)
    top = max(float(planes.max()), 1e-9)
    picture = np.clip(planes.astype(float) / top @ colours, 0, 1)
    scale = max(1, 160 // planes.shape[0])
    return (255 * picture.repeat(scale, axis=0).repeat(scale, axis=1)).astype(np.uint8)


def _as_json(report: SymmetryReport, settings: CheckConfig) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, CounterExample | Board):
            return {key: plain(part) for key, part in vars(value).items()}
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, tuple | list):
            return [plain(part) for part in value]
        if isinstance(value, float) and not np.isfinite(value):  # for which JSON has no word
            return None if np.isnan(value) else str(value)
        return plain(value.tolist()) if isinstance(value, np.ndarray | np.generic) else value

    return {
        "env": settings.env.id,
        "holds": report.holds,
        "outcome": report.outcome,
        "remarks": list(report.remarks),
        "level": settings.level,
        "verdicts": [
            {key: plain(part) for key, part in vars(verdict).items()} | {"holds": verdict.holds}
            for verdict in report.verdicts
        ],
    }
