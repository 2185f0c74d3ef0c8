"""`LeanDQN`: SB3's DQN, the same numbers up to rounding in less time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import polyak_update
from torch import Tensor, nn

from equirl.actions.maps import LARGE_POINT
from equirl.agents.baselines.double_dqn import DoubleDQN, value_of_best
from equirl.agents.dqn.policies import EquivariantQNetwork
from equirl.agents.shortcuts.closed_form import ClosedForm, Rows
from equirl.agents.shortcuts.fused_adam import FusedAdam
from equirl.symmetry import Symmetry

ROWS_AT_ONCE = 1024
"""The most rows that a network is given at once when the targets of several minibatches of small
observations are computed together: their activations should stay in the cache."""

MANY_STEPS = 8
"""From so many gradient steps in one call on, it is worth while to move all that Adam knows into
one piece of memory and back."""


class Minibatch(NamedTuple):
    """What one gradient step needs.

    Args:
        observations: ``[batch, *shape]``, or a dict of them.
        actions: ``[batch, 1]``.
        targets: r + γⁿ max_a Q⁻(s', a), or `DoubleDQN`'s, ``[batch, 1]``.
        weights: of `Symmetrized.fixed_weights`, ``[|G|, batch]``, or None.
    """

    observations: PyTorchObs
    actions: Tensor
    targets: Tensor
    weights: Tensor | None


class LeanDQN(DoubleDQN):
    """DQN on an `EquivariantQNetwork`, without what SB3's loop waits for or does twice.

    Several minibatches are sampled, and their targets computed, at once, as the target network does
    not change meanwhile (but for the target of `DoubleDQN`, where the online network has a say);
    the loss is read once, at the end; parameters are updated in one call rather than one by one;
    the gradient of a perceptron on a CPU is written out (`ClosedForm`). With the trivial group it
    steps aside for SB3's own code.
    """

    q_net: EquivariantQNetwork
    q_net_target: EquivariantQNetwork
    compile: bool = False
    bf16: bool = False

    @property
    def symmetry(self) -> Symmetry:
        """The symmetry of the Q-function, as declared on the environment."""
        symmetry: Symmetry = self.q_net.symmetry_args["symmetry"]
        return symmetry

    def _create_aliases(self) -> None:
        super()._create_aliases()
        self._closed_form: ClosedForm | None = None
        self._loss: Callable[..., Tensor] = self._temporal_difference
        self._targets: Callable[..., Tensor] = self._bootstrap
        if self.compile:
            mode = "reduce-overhead" if self.device.type == "cuda" else None
            # Not the bound methods: compiled, they would be this model's in every copy of it.
            self._loss = partial(torch.compile(LeanDQN._temporal_difference, mode=mode), self)
            self._targets = partial(torch.compile(LeanDQN._bootstrap, mode=mode), self)

    def _excluded_save_params(self) -> list[str]:
        return [
            *super()._excluded_save_params(),
            "_loss",
            "_targets",
            "_parameters",
            "_closed_form",
            "_adam",
        ]

    def _on_step(self) -> None:
        if self.symmetry.group.order == 1:
            super()._on_step()
            return
        self._n_calls += 1
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            self._update_target()
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    @torch.no_grad()
    def _update_target(self) -> None:
        """θ⁻ ← (1 - τ) θ⁻ + τ θ."""
        online, target = parameters_of(self.q_net), parameters_of(self.q_net_target)
        if self.tau == 1:
            torch._foreach_copy_(target, online)
        else:
            torch._foreach_lerp_(target, online, self.tau)
        polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """See `DQN`."""
        if self.symmetry.group.order == 1:
            super().train(gradient_steps, batch_size)
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self._parameters = parameters_of(self.policy)  # anew: layers may have been replaced
        is_plain = not self.compile and not self.bf16
        is_ours = type(self)._temporal_difference is LeanDQN._temporal_difference
        self._closed_form = (
            ClosedForm.of(self.q_net, self.policy.optimizer) if is_plain and is_ours else None
        )
        self._adam = None if self._closed_form is None else FusedAdam.of(self.policy.optimizer)
        losses = []
        with _flushed_subnormals(), self._adam_in_one_piece(gradient_steps):
            for batch in self._minibatches(gradient_steps, batch_size):
                losses.append(self._gradient_step(batch))
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if losses:
            self.logger.record("train/loss", float(torch.stack(losses).mean()))

    def _adam_in_one_piece(self, gradient_steps: int) -> AbstractContextManager[None]:
        if self._adam is None or self._closed_form is None or gradient_steps < MANY_STEPS:
            return nullcontext()
        return self._adam.in_one_piece(self._closed_form.parameters, self._closed_form.gradient)

    def _minibatches(self, count: int, batch_size: int) -> Iterator[Minibatch | Rows]:
        entries = sum(leaf.size for leaf in self.symmetry.observations.leaves)
        orbits = batch_size * self.symmetry.group.order
        waits = self.double_q or entries >= LARGE_POINT
        at_once = 1 if waits else max(1, ROWS_AT_ONCE // orbits)
        assert self.replay_buffer is not None
        while count > 0:
            steps = min(count, at_once)
            count -= steps
            sample = self.replay_buffer.sample(steps * batch_size, env=self._vec_normalize_env)
            discounts = self.gamma if sample.discounts is None else sample.discounts
            self._mark_step()
            with torch.no_grad(), self._precision():
                targets = self._targets(
                    sample.next_observations, sample.rewards, sample.dones, discounts
                )
                weights = self.q_net.symmetrized.fixed_weights(sample.observations)
            if self.compile:
                targets = targets.clone()  # a CUDA graph writes the next ones in the same place
            rows = None
            if self._closed_form is not None:
                rows = self._closed_form.rows(sample.observations, sample.actions, targets, weights)
            for start in range(0, steps * batch_size, batch_size):
                own = slice(start, start + batch_size)
                if rows is not None:
                    yield Rows(*(part[own] for part in rows))
                    continue
                yield Minibatch(
                    _rows(sample.observations, own),
                    sample.actions[own],
                    targets[own],
                    None if weights is None else weights[:, own],
                )

    def _gradient_step(self, batch: Minibatch | Rows) -> Tensor:
        """One step down the Huber loss of the temporal-difference error, which is returned."""
        if isinstance(batch, Rows):
            assert self._closed_form is not None
            loss = self._closed_form.loss(batch)
            self._clip_gradient([self._closed_form.gradient])
            self._adam = self._adam or FusedAdam.of(self.policy.optimizer)
            (self._adam or self.policy.optimizer).step()
        else:
            loss = self._backpropagate(batch)
            self._clip_gradient([p.grad for p in self._parameters if p.grad is not None])
            self.policy.optimizer.step()
        return loss

    def _backpropagate(self, batch: Minibatch) -> Tensor:
        self._mark_step()
        with self._precision():
            loss = self._loss(*batch)
        for group in self.policy.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        torch.autograd.backward(loss)
        return loss.detach().clone() if self.compile else loss.detach()

    def _temporal_difference(
        self, observations: PyTorchObs, actions: Tensor, targets: Tensor, weights: Tensor | None
    ) -> Tensor:
        q_values: Tensor = self.q_net(observations, weights).gather(1, actions.long())
        return F.smooth_l1_loss(q_values.to(targets.dtype), targets)

    def _bootstrap(
        self, observations: PyTorchObs, rewards: Tensor, dones: Tensor, discounts: Tensor | float
    ) -> Tensor:
        following = self.q_net_target(observations)
        if self.double_q:
            best = value_of_best(self.q_net(observations), following)
        else:
            best = following.amax(dim=1, keepdim=True)
        return rewards + (1 - dones) * discounts * best.to(rewards.dtype)

    def _precision(self) -> AbstractContextManager[Any]:
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _mark_step(self) -> None:
        """Results of earlier calls of compiled functions are no longer needed."""
        if self.compile:
            # Torch leaves it untyped.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def _clip_gradient(self, gradients: list[Tensor]) -> None:
        """`torch.nn.utils.clip_grad_norm_` without its bookkeeping."""
        norms = gradients[0] if len(gradients) == 1 else torch.stack(torch._foreach_norm(gradients))
        norm = torch.linalg.vector_norm(norms)
        if (
            norm.device.type == "cpu" and float(norm) <= self.max_grad_norm
        ):  # elsewhere, do not wait
            return
        torch._foreach_mul_(gradients, (self.max_grad_norm / (norm + 1e-6)).clamp_(max=1))


def parameters_of(module: nn.Module) -> list[Tensor]:
    """``list(module.parameters())``, in another order, without names that nobody asks for."""
    found: dict[int, Tensor] = {}
    pending = [module]
    for part in pending:
        for parameter in part._parameters.values():
            if parameter is not None:
                found[id(parameter)] = parameter
        for child in part._modules.values():
            if child is not None:
                pending.append(child)
    return list(found.values())


def _rows(observations: Any, rows: slice) -> Any:
    if isinstance(observations, dict):
        return {key: part[rows] for key, part in observations.items()}
    return observations[rows]


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
