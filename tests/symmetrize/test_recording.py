"""What PyTorch records of a symmetrized model holds for other inputs and batch sizes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from equirl import Symmetrized
from equirl.groups import dihedral
from equirl.recording import is_recording
from shared.rarely import rarely
from shared.representations import affine_action, output_action, signed_action, size
from shared.symmetrized_models import METHODS, every_method, mlp, on_stabilised, symmetrized

BATCH = ({0: torch.export.Dim.DYNAMIC},)


def traced(model: Symmetrized, x: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Python numbers become constants
        return torch.jit.trace(model, x)


def exported(model: Symmetrized, x: Tensor) -> Any:
    return torch.export.export(model, (x,), dynamic_shapes=BATCH).module()


def as_onnx(model: Symmetrized, x: Tensor) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason="runs what is exported")
    pytest.importorskip("onnxscript", reason='exporting needs pip install "equirl[export]"')
    program = torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=BATCH, verbose=False)
    assert program is not None
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    name = session.get_inputs()[0].name
    return lambda rows: torch.from_numpy(session.run(None, {name: rows.numpy()})[0])


def assert_holds(record: Callable[..., Any], name: str, kind: Any, training: bool = False) -> None:
    group, rng = dihedral(3), np.random.default_rng(0)
    into, out = kind(group, rng), output_action(group, rng)
    torch.manual_seed(0)
    model = symmetrized(mlp(size(into), size(out)), into, out, METHODS[name]).train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    recorded = record(model, torch.randn(2, size(into)))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])  # recording is not learning
    model.eval()
    x = torch.randn(9, size(into))
    x = torch.cat([x, on_stabilised(into, x[:4], rng), torch.zeros(1, size(into))])
    for rows in (x, x[:1], x[-1:]):
        torch.testing.assert_close(recorded(rows), model(rows), rtol=0, atol=1e-5)


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("kind", [signed_action, affine_action])
@pytest.mark.parametrize("training", [False, True])
def test_a_traced_model_holds_for_other_states_and_batches(
    name: str, kind: Any, training: bool
) -> None:
    assert_holds(traced, name, kind, training)


@pytest.mark.parametrize(
    "name",
    # tests/agents/saving/test_export.py has the others.
    rarely(
        METHODS, *(m for m in METHODS if m not in ("lambda from equizero", "canonical learned"))
    ),
)
def test_an_exported_program_holds_for_other_states_and_batches(name: str) -> None:
    assert_holds(exported, name, signed_action)


@pytest.mark.slow
@every_method
def test_an_onnx_model_holds_for_other_states_and_batches(name: str) -> None:
    assert_holds(as_onnx, name, signed_action)


def test_compiling_is_not_recording_and_exporting_is() -> None:
    class Told(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + float(is_recording())

    told, x = Told(), torch.zeros(2)
    torch._dynamo.reset()
    assert torch.compile(told, backend="eager")(x).tolist() == told(x).tolist() == [0, 0]
    for strict in (True, False):
        assert torch.export.export(told, (x,), strict=strict).module()(x).tolist() == [1, 1]
