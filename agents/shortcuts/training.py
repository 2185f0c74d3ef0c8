"""Training steps of `EquivariantDQN` in less time: the same numbers up to rounding.

Several minibatches are sampled, and their targets computed, at once: the target network does not
change meanwhile. The gradient of a perceptron is written out. What PyTorch does around clipping and
Adam is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from torch import Tensor

from equirl.actions import LARGE_POINT
from equirl.agents.shortcuts.closed_form import ClosedForm, Rows
from equirl.agents.shortcuts.fused_adam import adam_step
from equirl.agents.shortcuts.perceptron import has_no_hooks

if TYPE_CHECKING:
    from equirl.agents.dqn.dqn import EquivariantDQN

ROWS_AT_ONCE = 1024
"""The most rows that a network is given at once when the targets of several minibatches of small
observations are computed together: their activations should stay in the cache."""


def may_take_shortcuts(model: EquivariantDQN) -> bool:
    """The one guard: whether the switch is on, and no code of the user's runs in a training step.

    That is, `targets`, `loss` and the replay buffer's ``sample`` are not overridden, and neither
    modules, parameters nor the optimizer have hooks.
    """
    optimizer, buffer = model.policy.optimizer, model.replay_buffer
    return (
        model.shortcuts
        and model.has_standard_loss
        and buffer is not None
        and "sample" not in vars(buffer)
        and type(buffer).sample in (ReplayBuffer.sample, DictReplayBuffer.sample)
        and all(map(has_no_hooks, model.policy.modules()))
        and not any(map(_has_hooks, model.q_net.parameters()))
        and not optimizer._optimizer_step_pre_hooks
        and not optimizer._optimizer_step_post_hooks
        and "step" not in vars(optimizer)  # where learning-rate schedulers leave their own
    )


def take_steps(model: EquivariantDQN, count: int, batch_size: int) -> list[Tensor]:
    """``count`` training steps, as those of `DoubleDQN`; their losses."""
    optimizer = model.policy.optimizer
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    is_plain = not model.compile and not model.bf16
    closed_form = ClosedForm.of(model.q_net, parameters) if is_plain else None
    step = optimizer.step if closed_form is None else adam_step(optimizer)
    at_once = _minibatches_at_once(model, batch_size)
    assert model.replay_buffer is not None
    losses = []
    with _flushed_subnormals():
        for done in range(0, count, at_once):
            total = min(at_once, count - done) * batch_size
            sample = _sampled(model, total // batch_size, batch_size)
            targets = model.targets(sample)
            rows = None if closed_form is None else closed_form.rows(sample, targets)
            for start in range(0, total, batch_size):
                own = slice(start, start + batch_size)
                if closed_form is not None and rows is not None:
                    loss = closed_form.loss(Rows(*(part[own] for part in rows)))
                    gradients = [closed_form.gradient]
                else:
                    loss = model.loss(_part(sample, own), targets[own])
                    for parameter in parameters:
                        parameter.grad = None
                    torch.autograd.backward(loss)
                    gradients = [p.grad for p in parameters if p.grad is not None]
                _clip(gradients, model.max_grad_norm)
                step()
                losses.append(loss.detach())
    return losses


def _minibatches_at_once(model: EquivariantDQN, batch_size: int) -> int:
    entries = sum(leaf.size for leaf in model.symmetry.observations.leaves)
    if model.double_q or entries >= LARGE_POINT:  # with `double_q` the target moves at every step
        return 1
    return max(1, ROWS_AT_ONCE // (batch_size * model.symmetry.group.order))


def _sampled(model: EquivariantDQN, count: int, batch_size: int) -> Any:
    """Minibatches as they would be drawn one after the other, joined."""
    buffer: Any = model.replay_buffer
    if buffer.n_envs == 1:
        return buffer.sample(count * batch_size, env=model._vec_normalize_env)
    # After the rows of each the environments are drawn.
    return _joined([buffer.sample(batch_size, env=model._vec_normalize_env) for _ in range(count)])


def _joined(samples: Sequence[Any]) -> Any:
    first = samples[0]
    if isinstance(first, Tensor):
        return torch.cat(list(samples))
    if isinstance(first, dict):
        return {key: _joined([sample[key] for sample in samples]) for key in first}
    return None if first is None else type(first)(*map(_joined, zip(*samples, strict=True)))


def _part(sample: Any, rows: slice) -> Any:
    """These rows of every tensor of a sample."""
    if isinstance(sample, Tensor):
        return sample[rows]
    if isinstance(sample, dict):
        return {key: part[rows] for key, part in sample.items()}
    return None if sample is None else type(sample)(*(_part(part, rows) for part in sample))


def _clip(gradients: list[Tensor], max_norm: float) -> None:
    """`torch.nn.utils.clip_grad_norm_` without its bookkeeping."""
    norms = gradients[0] if len(gradients) == 1 else torch.stack(torch._foreach_norm(gradients))
    norm = torch.linalg.vector_norm(norms)
    if norm.device.type != "cpu" or float(norm) > max_norm:  # elsewhere, do not wait for the answer
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp_(max=1))


def _has_hooks(parameter: Tensor) -> bool:
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


@contextmanager
def _flushed_subnormals() -> Iterator[None]:
    """Numbers below 1e-38 count as zero: Adam's moments of dead units decay into them, and on a CPU
    they cost many times what others do."""
    already = float(torch.tensor(1e-40, dtype=torch.float32) * 1) == 0  # torch cannot be asked
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)
