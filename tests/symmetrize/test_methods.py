"""Methods are data: spelled, resolved, asked; options that they do not heed are refused."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from equirl import GroupAction, Symmetrized
from equirl.errors import MethodError
from equirl.groups import cyclic
from equirl.symmetrize.methods import METHODS, OPTIONS, Canonical, Equizero, resolve, resolve_saved

DEFAULTS = {name: option.default for name, option in OPTIONS.items()}
OTHERS = {
    "gradient": "straight_through",
    "init": "equizero",
    "canonical_score": "learned",
    "inner": "equizero",
    "per_action": True,
    "orbit_samples": 2,
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_made_again_from_its_spelling_and_options(name: str) -> None:
    options = {option: OTHERS[option] for option in METHODS[name]().options}
    method = resolve(name, **options)
    assert (method.name, method.options) == (name, options)
    assert resolve(method) == method
    assert resolve(method.name, **method.options) == method


def test_what_is_none_is_not_given_and_what_is_given_replaces_an_option() -> None:
    assert resolve("equizero", gradient=None, init=None) == Equizero()
    assert resolve(Canonical(), gradient="straight_through") == Canonical("straight_through")


def test_every_option_says_what_it_means() -> None:
    assert set(OPTIONS) == set(OTHERS)
    for option in OPTIONS.values():
        assert option.metadata["meaning"]
        assert all(choice in option.metadata["meaning"] for choice in option.metadata["choices"])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("option", OTHERS)
def test_an_option_that_the_method_does_not_heed_is_refused(name: str, option: str) -> None:
    if option in METHODS[name]().options:
        return
    for value in (OTHERS[option], DEFAULTS[option] or 1):
        with pytest.raises(MethodError, match=f"{option} is for method=.*, got method={name}"):
            resolve(name, **{option: value})
    # Earlier versions saved all options of every method.
    assert resolve_saved(name, **DEFAULTS) == METHODS[name]()
    with pytest.raises(MethodError, match=option):
        resolve_saved(name, **{**DEFAULTS, option: OTHERS[option]})


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"method": "equitun"}, "'equitun': did you mean 'equitune'"),
        ({"method": 3}, "3"),
        ({"method": "equizero", "gradient": "soft"}, "'soft'"),
        ({"method": "lambda", "init": "zero"}, "'zero'"),
        ({"method": "equitune", "orbit_samples": 0}, "0"),
        ({"method": "equitune", "orbit_samples": 1.5}, "1.5"),
        (
            {"method": "relaxed", "per_action": "false"},
            "per_action must be true or false or auto, got 'false'",
        ),
        ({"method": "equitune", "orbit_sample": 1}, "'orbit_sample': did you mean 'orbit_samples'"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(options: dict[str, Any], value: str) -> None:
    with pytest.raises(MethodError, match=value):
        resolve(**options)


TWO = GroupAction.trivial(cyclic(2), (2,))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"method": "equitune", "canonical_score": len}, "canonical_score"),
        ({"method": "equitune", "gradient": "selected"}, "gradient"),
        ({"method": "canonical", "score": len}, "score"),
        ({"method": "lambda"}, "feature_dim"),
        ({"method": Canonical(canonical_score="learned")}, "canonical_score"),
        ({"output_action": GroupAction.trivial(cyclic(3), (2,))}, "same group"),
        ({"method": "equizero", "output_action": (TWO, TWO)}, "score"),
        ({"method": "lambda", "feature_dim": 2, "output_action": (TWO, TWO)}, "features"),
    ],
)
def test_symmetrized_refuses_what_is_not_heeded_and_what_is_missing(
    arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(MethodError, match=named):
        Symmetrized(nn.Linear(2, 2), **{"input_action": TWO, "output_action": TWO, **arguments})
