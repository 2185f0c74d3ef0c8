"""The command line: ``equirl COMMAND key=value …``, each command a Hydra application."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from omegaconf import DictConfig

Argument = TypeVar("Argument")

COMMANDS = {
    "train": "train an equivariant agent, or a plain one beside it",
    "evaluate": "play episodes with a saved agent, seen through any group element",
    "check": "compare the declared symmetry with the live environment, or discover it",
    "transfer": "make a trained plain SB3 agent equivariant, in the way that suits it best",
    "export": "write the greedy policy, symmetry included, as ONNX or a torch.export program",
    "report": "learning curves and statistics over seeds of finished runs, as pages and tables",
    "benchmark": "time every method beside stock SB3 DQN, in turn in one run",
}
"""Each is a function of the same name in the module ``equirl.commands.<name>``, with a
configuration of the same name in ``configs/``."""

HELP = """usage: equirl COMMAND key=value …

{commands}

equirl COMMAND --help lists what a command takes; equirl --version prints the version.
For a first look: equirl train env=cartpole method=lambda"""

HYDRA_OPTIONS = (
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--info", "-i"),
    *("--package", "-p", "--run", "-r", "--multirun", "-m", "--shell-completion", "-sc"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    "--experimental-rerun",
)
"""Everything else that begins with a dash is a mistake."""

OPEN_KEYS = ("env.kwargs.", "hydra.launcher.ray.init.", "hydra.launcher.ray.remote.")
"""Below them any key may stand: what an environment takes, or Ray."""

GROUPS = {"train": ("algorithm", "method"), "benchmark": ("algorithm",)}
"""Below them Hydra lets any key stand, too: which keys there are depends on the name of the group's
file, and is checked once that is known."""


HYDRA_OPTIONS_WITH_VALUE = (
    *("--cfg", "-c", "--package", "-p"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
)


POSITIONAL = {"report": "runs"}
"""The list that a command's arguments without a key go into."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with code 2 and one line where the caller can mend what is wrong."""
    try:
        try:
            _dispatch(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # here, where it can be caught, not when Python ends
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _dispatch(arguments: Sequence[str]) -> None:
    command, *overrides = list(arguments) or ["--help"]
    if command in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {c:10}{what}" for c, what in COMMANDS.items())))
        sys.exit(0)
    if command in ("-V", "--version"):
        import equirl

        print(f"equirl {equirl.__version__}")
        sys.exit(0)
    if command not in COMMANDS:
        from equirl.shown import nearest

        hint = nearest(command, COMMANDS)
        print(f"equirl: no command {command!r}{hint}; see equirl --help", file=sys.stderr)
        sys.exit(2)
    _run(command, overrides)


def _run(command: str, overrides: list[str]) -> None:
    # Imported here, so that --help and a mistyped command answer at once.
    import hydra

    from equirl.commands.composition import completed
    from equirl.commands.mistakes import MISTAKES, explain
    from equirl.commands.sweep.command import is_sweep, sweep, sweep_arguments
    from equirl.commands.sweep.worker import run_job
    from equirl.configs.schema import register_schemas

    if command in POSITIONAL:
        overrides = _with_key(POSITIONAL[command], overrides)
    for override in overrides:
        _check_syntax(command, override)
    overrides = _with_new_names(command, overrides)
    register_schemas()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand exceptions on to us rather than printing them
    # What others take is not known beforehand: ++ adds a key that is not there yet.
    overrides = [f"++{o}" if o.startswith(_open_keys(command)) else o for o in overrides]
    # Hydra takes -m before the keys or behind them, not in between.
    overrides.sort(key=lambda override: override not in ("-m", "--multirun"))
    _check_options(command, overrides)
    sys.argv = [f"equirl {command}", *overrides]
    began = False

    def task(config: DictConfig) -> Any:
        nonlocal began
        began = True
        run = getattr(importlib.import_module(f"equirl.commands.{command}"), command)
        return answered(command, lambda config: run(completed(command, config)), config)

    hydra_main = hydra.main(
        version_base="1.3", config_path="pkg://equirl.configs", config_name=command
    )
    try:
        if command == "train" and is_sweep(overrides):
            sys.argv += sweep_arguments(overrides)
            answered(command, sweep, hydra_main(run_job))
        else:
            hydra_main(task)()
    except MISTAKES as error:
        _refuse(command, explain(error, command))
    except ValueError as error:  # how Hydra refuses values such as env=null
        if began:
            raise
        _refuse(command, explain(error, command))
    except (TypeError, AttributeError, LookupError, AssertionError) as error:  # env=[0] and so on
        if began:
            raise
        what = f"{type(error).__name__}: {explain(error, command)}"
        _refuse(command, f"Hydra cannot read these arguments ({what}); write them key=value")
    except KeyboardInterrupt:
        print(f"\nequirl {command}: interrupted", file=sys.stderr)
        sys.exit(130)


def answered(command: str, run: Callable[[Argument], Any], argument: Argument) -> Any:
    """Run a command's function; exit with one line where it says what ended it."""
    from equirl.commands.mistakes import MISTAKES, explain
    from equirl.errors import RunError

    try:
        return run(argument)
    except MISTAKES as error:  # before Hydra adds a line of its own
        _refuse(command, explain(error, command))
    except RunError as error:
        _end(command, error, error.code)


def _with_key(key: str, arguments: list[str]) -> list[str]:
    """Gather what has no key, or is a path that exists, into ``key=[…]``."""
    gathered: list[str] = []
    others: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_value = argument.startswith("-") or before in HYDRA_OPTIONS_WITH_VALUE
        # Path.exists (PTH110) raises where a name is too long for one.
        is_path = "=" not in argument or os.path.exists(argument)  # noqa: PTH110
        (gathered if is_path and not is_value else others).append(argument)
    listed = ",".join(map(_quoted, gathered))
    return [*([f"{key}=[{listed}]"] if gathered else []), *others]


def _open_keys(command: str) -> tuple[str, ...]:
    return (*OPEN_KEYS, *(f"{group}." for group in GROUPS.get(command, ())))


def _with_new_names(command: str, overrides: list[str]) -> list[str]:
    """The arguments, with a line for each whose key was called otherwise in version 0.1."""
    from equirl.configs.old_keys import with_new_names
    from equirl.errors import ConfigError

    try:
        renamed, notes = with_new_names(overrides, "algorithm" in GROUPS.get(command, ()))
    except ConfigError as error:
        _refuse(command, str(error))
    for note in notes:
        print(f"equirl {command}: {note}", file=sys.stderr)
    return renamed


def _quoted(text: str) -> str:
    """For Hydra's grammar, which would otherwise read more than a word in a path."""
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def _check_syntax(command: str, override: str) -> None:
    """Refuse what Hydra would answer with its usage, or what would add or remove a key."""
    key = override.partition("=")[0]
    if key.startswith("-") and key not in HYDRA_OPTIONS:
        _refuse(command, f"no option {key!r} (arguments are written key=value, without dashes)")
    if key.lstrip("+~") == "hydra.output_subdir":
        _refuse(command, f"{key} is not taken (config.yaml in a run directory says it all)")
    for group in GROUPS.get(command, ()):
        named = re.match(rf"\+*{group}(?:\.name=|={{(?:.*,)?\s*name:)\s*([^\s{{}}]*)", override)
        if named:
            _refuse(
                command,
                f"{group}.name by itself leaves out what a name brings with it: say "
                f"{group}={named[1]}",
            )
    optional = ("hydra", "experiment", *_open_keys(command))
    if key.startswith(("+", "~")) and not key.lstrip("+~").startswith(optional):
        _refuse(command, f"{override!r} adds or removes a key (arguments are written key=value)")


def _check_options(command: str, arguments: list[str]) -> None:
    """Refuse in one line what Hydra's parser would refuse with a page of usage."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        _refuse(command, f"{message} (arguments are written key=value; see --help)")

    parser = get_args_parser()
    setattr(parser, "error", refuse)  # noqa: B010 (mypy lets no method be assigned)
    parser.parse_args(arguments)


def _refuse(command: str, line: str) -> NoReturn:
    print(f"equirl {command}: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(2)


def _end(command: str, error: BaseException, code: int) -> NoReturn:
    """One line, or with ``EQUIRL_DEBUG=1`` where the error came from as well."""
    if os.environ.get("EQUIRL_DEBUG"):
        traceback.print_exception(error)
    print(f"equirl {command}: {error}", file=sys.stderr)
    sys.exit(code)
