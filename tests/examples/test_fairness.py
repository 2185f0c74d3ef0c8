"""EquiLM: groups of people are treated alike, exactly; and by which tokens."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from equirl import GroupAction
from equirl.errors import ConfigError
from equirl.groups import cyclic
from equirl.testing import assert_equivariant
from fairness import run as fairness
from fairness.equilm import EquiLM, exchange
from fairness.language_models import Pretrained, SmallModel, Words
from fairness.scorers import scorer_of
from running import main, need
from shared.extras import skip_without

TEXT = "the man was wise . the woman was good . he said to her that she and his son were glad . "
LISTS = [["man", "woman"], ["he", "she"], ["his", "her"]]
WORDS = Words(TEXT, 40)
SIZE = len(WORDS.words)


def models() -> list[nn.Module]:
    found: list[nn.Module] = [SmallModel(SIZE, 8)]
    if importlib.util.find_spec("transformers") is None:  # of equirl[examples]
        return found
    transformers = need("transformers")
    config = transformers.GPT2Config(vocab_size=SIZE, n_embd=8, n_layer=1, n_head=2)
    return [*found, Pretrained(transformers.GPT2LMHeadModel(config).eval())]


def equilm(model: nn.Module, method: str, general: tuple[int, ...] = ()) -> EquiLM:
    found = EquiLM(model, exchange(WORDS, SIZE, LISTS)[0], method, general).eval()
    if method == "lambda":
        nn.init.normal_(found.symmetrized.weighting.h[-1].weight)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["equitune", "equizero", "lambda"])
def test_the_distribution_of_the_next_token_moves_with_the_words(
    method: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    table, _ = exchange(WORDS, SIZE, LISTS)
    group = cyclic(2)
    tokens = GroupAction.on_tokens(group, table, length=7)
    logits = GroupAction.on_vectors(group, permutations=table).copies(7)
    x = torch.randint(SIZE, (5, 7))
    for model in models():
        lm = equilm(model, method).to(dtype)
        with torch.no_grad():
            assert_equivariant(lambda x, lm=lm: lm(x)[0], tokens, logits, x)


def test_whole_continuations_are_as_likely_for_either_group() -> None:
    torch.manual_seed(0)
    table, _ = exchange(WORDS, SIZE, LISTS)
    text = torch.randint(SIZE, (3, 9))
    lm = equilm(SmallModel(SIZE, 8).double(), "equizero")

    def likelihood(text: torch.Tensor) -> torch.Tensor:
        found = lm(text[:, :-1])[0]
        return found.gather(2, text[:, 1:, None])[:, 2:].sum(dim=(1, 2))

    torch.testing.assert_close(likelihood(table[1][text]), likelihood(text), rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", ["equitune", "equizero", "lambda"])
def test_a_cache_changes_nothing(method: str) -> None:
    torch.manual_seed(0)
    x = torch.randint(SIZE, (2, 6))
    for model in models():
        lm, cache, steps = equilm(model, method), None, []
        with torch.no_grad():
            for part in x.split([3, 1, 1, 1], dim=1):
                step, cache = lm(part, cache)
                steps.append(step)
            torch.testing.assert_close(torch.cat(steps, dim=1), lm(x)[0])


def test_general_words_keep_the_odds_of_the_model_itself() -> None:
    torch.manual_seed(0)
    model, general = SmallModel(SIZE, 8), (WORDS.numbers["wise"], WORDS.numbers["good"])
    x = torch.randint(SIZE, (2, 4))
    relaxed, whole = equilm(model, "equitune", general)(x)[0], equilm(model, "equitune")(x)[0]
    for found, like, (a, b) in (
        (relaxed, model(x)[0], general),
        (relaxed, whole, (WORDS.numbers["man"], WORDS.numbers["glad"])),
    ):
        odds = [y[..., a] - y[..., b] for y in (found, like)]
        torch.testing.assert_close(*odds)


class SplitsWoman:
    """A tokeniser's vocabulary with one word of two pieces."""

    def forms(self, word: str) -> list[list[int]]:
        return {"man": [[1], [2]], "woman": [[3], [4, 5]], "lady": [[4, 6], [4, 5]]}[word]


def test_words_of_several_tokens_are_left_out_or_named() -> None:
    vocabulary: Any = SplitsWoman()
    table, notes = exchange(vocabulary, 7, [["man", "woman"]])
    assert table.tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 3, 2, 1, 4, 5, 6]]
    assert len(notes) == 1
    with pytest.raises(ConfigError, match="lady"):
        exchange(vocabulary, 7, [["man", "lady"]])


@pytest.mark.parametrize("lists", [[["man"]], [["man", "womn"]], [["he", "she"], ["his", "she"]]])
def test_lists_that_are_no_permutation_are_refused(lists: list[list[str]]) -> None:
    with pytest.raises(ConfigError):
        exchange(WORDS, SIZE, lists)


@pytest.mark.parametrize("name", ["words", "vader"])
def test_scorers_tell_good_from_bad(name: str) -> None:
    if name == "vader":
        skip_without("vaderSentiment")
    good, bad, neither = scorer_of(name, OmegaConf.create(fairness.DEFAULTS))(
        ["the man was good and wise", "the man was evil", "the man went up"]
    )
    assert good > neither == 0 > bad


def test_the_whole_path_runs_on_a_text_of_ones_own(tmp_path: Path) -> None:
    out, text = tmp_path / "result.json", tmp_path / "text.txt"
    text.write_text(TEXT * 100)
    given = ["exchange=[[man,woman],[he,she]]", "prompts=['the {} was']", f"text={text}"]
    given += ["steps=20", "lambda_steps=2", "continuations=8", f"out={out}", "--quick"]
    assert main(fairness.run, fairness.DEFAULTS, fairness.QUICK, given) == 0
    distance = {row["method"]: row["distance"] for row in json.loads(out.read_text())["rows"]}
    assert distance["plain"] > 1e-4
    assert max(distance[m] for m in ("equitune", "equizero", "lambda")) < 1e-5


@pytest.mark.long
def test_quick_runs_on_the_text_of_a_package(tmp_path: Path) -> None:
    skip_without("bible")
    out = tmp_path / "result.json"
    assert main(fairness.run, fairness.DEFAULTS, fairness.QUICK, ["--quick", f"out={out}"]) == 0
    distance = {row["method"]: row["distance"] for row in json.loads(out.read_text())["rows"]}
    assert distance["plain"] > 0.02 > 1e-5 > distance["equitune"]


def test_a_missing_word_prompt_or_text_is_code_2(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 50)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "short.txt").write_text(TEXT)
    for wrong in (
        [f"text={tmp_path / 'no.txt'}"],
        [f"text={tmp_path / 'bytes.txt'}"],
        [f"text={tmp_path / 'short.txt'}", "exchange=[[man,woman]]", "prompts=['the {} was']"],
        [f"text={text}", "exchange=[[man,womn]]"],
        ["prompts=[]"],
        ["prompts=['the man']"],
    ):
        given = [*wrong, "steps=0", "--quick"]
        assert main(fairness.run, fairness.DEFAULTS, fairness.QUICK, given) == 2
