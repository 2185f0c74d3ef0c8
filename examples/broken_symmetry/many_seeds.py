"""The agents of grids.py, ten seeds side by side: one batched network for all of them.

    python examples/broken_symmetry/many_seeds.py TASK METHOD FIRST_SEED,SEEDS FOLDER [WAY [STEPS]]

These rooms have a few hundred states, orbits and all: Q of every state at once costs less than a
minibatch with its orbits, and a step of the environment is a look into a table. The training is
that of equirl and SB3, with the same networks, replay, targets, losses and optimizer, and other
random numbers. `grids.py` runs the library itself, one seed after the other.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import grids
import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from learners import ERROR_PRIOR, FADES_AFTER, WEIGHED
from torch import Tensor

from equirl.envs import symmetry_of
from equirl.symmetrize.relaxing import FLOOR, MARGIN, PACE, PRIOR, let_go
from equirl.symmetrize.weightings import shared_among_best

WIDTH, GATE, ACTIONS = 64, 32, 4
METHODS = (
    *("plain", "augment", "mirror_loss", "equitune", "equizero", "rpp"),
    *("relaxed", "relaxed-per_action", "relaxed-per_state"),
)
WAYS = (
    *("-", "local", "seen", "noaux", "slow", "predictors"),
    *("error", "fading", "floor1", "held", *WEIGHED),
)
"""Of learning alpha: see `learners.vary`; slow: p is a tenth of what its network gives; held: from
a sixteenth of all transitions, which no minibatch is drawn from."""
HELD = 16
"""Of so many steps one is kept from all minibatches where the way is held."""


class Room:
    """A table of all states as tensors, and what the symmetry makes of each."""

    def __init__(self, task: str) -> None:
        env_id, kwargs = grids.TASKS[task]
        env = gym.make(env_id, size=grids.SIZE, **kwargs)
        self.table = grids.Table(env.unwrapped)
        symmetry = symmetry_of(env)
        self.asymmetry = self.table.asymmetry(symmetry)
        key = {o.tobytes(): k for k, o in enumerate(self.table.observations)}
        orbit = symmetry.observations.orbit(torch.from_numpy(self.table.observations)).numpy()
        rows = torch.tensor([[key[o.tobytes()] for o in moved] for moved in orbit])
        self.order, self.count = rows.shape
        actions = torch.arange(float(ACTIONS)).expand(self.order, 1, ACTIONS).contiguous()
        moved = symmetry.q_values.pull_back(actions)[:, 0].long()
        # [|G|, states, actions]: where g maps (s, a) in a flat table of Q
        self.moved = (rows[..., None] * ACTIONS + moved[:, None]).flatten(1)
        self.next, self.reward, self.done = (
            torch.as_tensor(array).flatten()
            for array in (self.table.next, np.float32(self.table.reward), self.table.done)
        )
        places = [agent[0] * grids.SIZE + agent[1] for agent, _ in self.table.states]
        goals = [goal[0] * grids.SIZE + goal[1] for _, goal in self.table.states]
        cells = grids.SIZE**2
        seen = F.one_hot(torch.tensor(places), cells), F.one_hot(torch.tensor(goals), cells)
        # Where the agent is, and where g moves each cell.
        self.place, agent = seen[0].float(), torch.tensor(places)
        one = torch.tensor([places.index(cell) for cell in range(cells)])
        self.cells = agent[rows[:, one]]
        self.inputs = torch.cat(seen, dim=1).float()  # without the walls, of which there are none
        self.parts = {
            "broken": self.table.broken,
            "other": ~self.table.broken,
            "asymmetric": self.asymmetry > grids.ASYMMETRIC,
            "symmetric": self.asymmetry < grids.SYMMETRIC,
        }


class Perceptrons(torch.nn.Module):
    """One perceptron for each seed, `[seeds or 1, rows, in] -> [seeds, rows, out]`."""

    def __init__(self, seeds: int, sizes: list[int], fan_in: int, draw: torch.Generator) -> None:
        super().__init__()
        self.layers = torch.nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            bound = fan_in**-0.5
            fan_in = outputs
            for shape in ((seeds, inputs, outputs), (seeds, 1, outputs)):
                start = (2 * torch.rand(shape, generator=draw) - 1) * bound
                self.layers.append(torch.nn.Parameter(start))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What they give, and their last hidden layer."""
        hidden = x
        for k in range(0, len(self.layers) - 2, 2):
            hidden = (torch.matmul(hidden, self.layers[k]) + self.layers[k + 1]).relu()
        return torch.matmul(hidden, self.layers[-2]) + self.layers[-1], hidden


class Agents:
    """DQN by one method, all seeds at once."""

    def __init__(self, room: Room, method: str, way: str, first: int, seeds: int) -> None:
        self.room, self.method, self.way, self.seeds = room, method, way, seeds
        self.draw = torch.Generator().manual_seed(1000 * first + 7)
        inputs = room.inputs.shape[1]
        sizes = [inputs, WIDTH, WIDTH, ACTIONS]
        observed = inputs + grids.SIZE**2  # with the walls
        self.q_net = Perceptrons(seeds, sizes, observed, self.draw)
        p = {"relaxed": 2 + ACTIONS, "relaxed-per_action": 1 + ACTIONS}.get(method, 1)
        self.gate = Perceptrons(seeds, [WIDTH, GATE, p], WIDTH, self.draw)
        self.residual = Perceptrons(seeds, sizes, observed, self.draw)
        with torch.no_grad():
            self.gate.layers[-2].zero_()
            self.gate.layers[-1].zero_()
        groups: list[dict[str, Any]] = [{"params": list(self.q_net.parameters())}]
        if self.relaxes:
            groups.append({"params": list(self.gate.parameters())})
        if method == "rpp":
            groups.append({"params": list(self.residual.parameters()), "weight_decay": 1e-3})
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = torch.optim.Adam(groups, grids.SETTINGS["learning_rate"])
        self.usual, self.gap, self.gain = torch.zeros(3, seeds).unbind()
        self.learned = 0
        given = ACTIONS * (1 + grids.SIZE**2)
        self.predictor = Perceptrons(seeds, [inputs, WIDTH, WIDTH, given], inputs, self.draw)
        self.of_predictor = torch.optim.Adam(self.predictor.parameters(), 1e-3)

    @property
    def relaxes(self) -> bool:
        return self.method.startswith("relaxed")

    def outputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Q of all (s, a), `[seeds, states · actions]`, the features, and the residual of `rpp`."""
        q, features = self.q_net(self.room.inputs)
        extra = self.residual(self.room.inputs)[0].flatten(1) if self.method == "rpp" else q[:, :0]
        return q.flatten(1), features, extra

    def candidates(self, features: Tensor, pairs: Tensor) -> list[Tensor]:
        """What may be p of these (s, a), `[seeds, k]`: of all actions, of each, or both."""
        states = (pairs // ACTIONS)[..., None].expand(-1, -1, WIDTH)
        each = self.gate(features.detach().gather(1, states))[0]
        each = 0.1 * each if self.way == "slow" else each
        found = [] if self.method == "relaxed-per_action" else [each[..., 0]]
        if self.method in ("relaxed", "relaxed-per_action"):
            each = each[..., len(found) :]
            found.append(each[..., 0] + each.gather(2, (1 + pairs % ACTIONS)[..., None])[..., 0])
        return found

    def evidence(self, features: Tensor, pairs: Tensor) -> Tensor:
        """p of these (s, a), `[seeds, k]`."""
        candidates = self.candidates(features, pairs)
        by_action = (self.gain > MARGIN * self.gap)[:, None]
        return torch.where(by_action, candidates[-1], candidates[0])

    def symmetric(self, q: Tensor, pairs: Tensor) -> Tensor:
        """Q_G of these (s, a), `[seeds, k]`."""
        along = self.room.moved[:, pairs].transpose(0, 1)  # [seeds, |G|, k]
        values = q.gather(1, along.flatten(1)).view(along.shape)
        if self.method != "equizero":
            return values.mean(dim=1)
        best = q.detach().view(self.seeds, -1, ACTIONS).amax(dim=2)
        scores = best.gather(1, along.flatten(1) // ACTIONS).view(along.shape)
        chosen = shared_among_best(scores.transpose(0, 1), scores.abs().amax(dim=1))
        return (chosen.transpose(0, 1) * values).sum(dim=1)

    def acting(self, outputs: tuple[Tensor, Tensor, Tensor], pairs: Tensor) -> Tensor:
        """The Q-function that acts, of these (s, a), `[seeds, k]`."""
        q, features, extra = outputs
        if self.method in ("plain", "augment", "mirror_loss"):
            return q.gather(1, pairs)
        value = self.symmetric(q, pairs)
        if self.method == "rpp":
            return value + extra.gather(1, pairs)
        if self.relaxes:
            alpha = let_go(self.evidence(features, pairs).detach())
            value = value + alpha * (q.gather(1, pairs) - value)
        return value

    @torch.no_grad()
    def everywhere(self, outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The Q-function that acts, `[seeds, states, actions]`."""
        pairs = torch.arange(self.room.count * ACTIONS).expand(self.seeds, -1)
        return self.acting(outputs, pairs).view(self.seeds, -1, ACTIONS)

    def loss(self, outputs: Any, sample: Any, newest: Any) -> Tensor:
        """Of each seed, `[seeds]`; samples are (s, a) pairs and targets."""
        pairs, y = sample
        q, features, _ = outputs
        loss = huber(self.acting(outputs, pairs), y)
        if self.method == "mirror_loss":  # c = 1
            g = torch.randint(1, self.room.order, pairs.shape, generator=self.draw)
            first = pairs - pairs % ACTIONS
            whole = (first[..., None] + torch.arange(ACTIONS)).flatten(1)
            other = self.room.moved[g.repeat_interleave(ACTIONS, dim=1), whole]
            loss = loss + (q.gather(1, whole) - q.gather(1, other)).square().mean(dim=1)
        if not self.relaxes:
            return loss
        if self.way != "noaux":
            loss = loss + huber(q.gather(1, pairs), y)
        if self.way == "predictors":
            predicted = self.predicted(pairs)
            losses = [(each - self.happened(pairs)).square().mean() for each in predicted]
            self.of_predictor.zero_grad()
            torch.stack(losses).sum().backward()
            self.of_predictor.step()
        pairs, y = sample if self.way == "seen" else newest
        candidates = self.candidates(features, pairs)
        with torch.no_grad():
            symmetric, plain = self.symmetric(q, pairs), q.gather(1, pairs)
            if self.way == "predictors":
                symmetric, plain = self.predicted(pairs)
                y = self.happened(pairs)
            r, d = y - symmetric, plain - symmetric
            error, gap = huber(symmetric, y), huber(plain, symmetric)
            if self.way in WEIGHED:
                half = 0.5 / r.abs().clamp(min=1)
                error, gap = ((half * x.square()).flatten(1).mean(dim=1) for x in (r, d))
            pace = WEIGHED.get(self.way, PACE) if self.learned else 1.0
            self.usual, self.gap = self.usual.lerp(error, pace), self.gap.lerp(gap, pace)
            self.learned += 1
        unit = self.usual.clamp(min=1e-12)
        errors = []
        for p in candidates:
            share = p[..., None] if self.way == "predictors" else p
            errors.append(huber(symmetric + share * d, y))
            loss = loss + errors[-1] / unit + self.prior(unit) * p.square().mean(dim=1)
        self.gain = self.gain.lerp((errors[0] - errors[-1]).detach(), 0.002)
        return loss

    def prior(self, unit: Tensor) -> Tensor | float:
        """kappa of each seed."""
        if self.way in ("error", "fading"):
            faded = FADES_AFTER / (FADES_AFTER + self.learned)
            return ERROR_PRIOR * (faded if self.way == "fading" else 1)
        return PRIOR * (self.gap / unit + (1.0 if self.way == "floor1" else FLOOR))

    def predicted(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Reward and change of place, `[seeds, k, 1 + cells]`: the orbit's mean, and plain."""
        room, entries = self.room, 1 + grids.SIZE**2
        given = self.predictor(room.inputs)[0].view(self.seeds, -1, entries)
        along = room.moved[:, pairs].transpose(0, 1)  # [seeds, |G|, k]
        rows = along.flatten(1)[..., None].expand(-1, -1, entries)
        each = given.gather(1, rows).view(*along.shape, entries)
        back = torch.cat([torch.zeros(room.order, 1).long(), 1 + room.cells], dim=1)
        each = each.gather(3, back[None, :, None].expand_as(each))
        return each.mean(dim=1), each[:, 0]

    def happened(self, pairs: Tensor) -> Tensor:
        """What `predicted` should be."""
        room = self.room
        change = room.place[room.next[pairs]] - room.place[pairs // ACTIONS]
        return torch.cat([room.reward[pairs][..., None], change], dim=2)

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.sum().backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.stack([g.flatten(1).square().sum(dim=1) for g in gradients]).sum(dim=0).sqrt()
        clip = (10 / (norm + 1e-6)).clamp(max=1)[:, None, None]
        for gradient in gradients:
            gradient.mul_(clip)
        self.optimizer.step()


def huber(given: Tensor, y: Tensor) -> Tensor:
    """The mean of each seed, `[seeds, …] -> [seeds]`."""
    return F.smooth_l1_loss(given, y, reduction="none").flatten(1).mean(dim=1)


def run(task: str, method: str, way: str, first: int, seeds: int, steps: int) -> list[Any]:
    started = time.process_time()
    room, settings, envs = Room(task), grids.SETTINGS, grids.N_ENVS
    agents = Agents(room, method, way, first, seeds)
    draw = agents.draw
    stored = torch.zeros(3, seeds, steps // envs + 1, envs, dtype=torch.long)  # (s, a), s', done
    state = torch.randint(room.count, (seeds, envs), generator=draw)
    age = torch.zeros(seeds, envs, dtype=torch.long)
    found: list[dict[str, Any]] = [
        {"steps": [], "returns": [], "errors": [], "alpha": []} for _ in range(seeds)
    ]
    values = local = torch.zeros(seeds, room.count)  # max_a of the target network
    since_target, decay = 0, settings["exploration_fraction"] * steps

    def judged(rows: Tensor, env: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        who = torch.arange(seeds)[:, None]
        pairs, following, done = stored[:, who, rows, env]
        y = room.reward[pairs] + settings["gamma"] * (1 - done) * of.gather(1, following)
        if method == "augment":  # moved, and with the value of the moved next state
            g = torch.randint(room.order, pairs.shape, generator=draw)
            following = room.moved[g, following * ACTIONS] // ACTIONS
            y = room.reward[pairs] + settings["gamma"] * (1 - done) * of.gather(1, following)
            pairs = room.moved[g, pairs]
        return pairs, y

    for row in range(steps // envs):
        outputs = agents.outputs()
        if since_target == 0:
            values = agents.everywhere(outputs).amax(dim=2)
            pairs = torch.arange(room.count * ACTIONS).expand(seeds, -1)
            q = outputs[0].detach()
            local = agents.symmetric(q, pairs).view(seeds, -1, ACTIONS).amax(dim=2)
        since_target = (since_target + 1) % max(settings["target_update_interval"] // envs, 1)
        with torch.no_grad():
            each = (state[..., None] * ACTIONS + torch.arange(ACTIONS)).flatten(1)
            greedy = agents.acting(outputs, each).view(seeds, envs, ACTIONS).argmax(dim=2)
        at_random = torch.randint(ACTIONS, (seeds, envs), generator=draw)
        final = settings["exploration_final_eps"]
        epsilon = max(final, 1 - (1 - final) * row * envs / decay)
        explores = torch.rand(seeds, 1, generator=draw) < epsilon  # as SB3: all or none
        learning = row * envs >= settings["learning_starts"]
        action = torch.where(explores, at_random, greedy) if learning else at_random
        taken = state * ACTIONS + action
        stored[0, :, row], stored[1, :, row] = taken, room.next[taken]
        stored[2, :, row] = room.done[taken]
        age += 1
        over = room.done[taken] | (age >= 100)
        fresh = torch.randint(room.count, (seeds, envs), generator=draw)
        state = torch.where(over, fresh, room.next[taken])
        age[over] = 0
        if learning:
            size, batch = row + 1, settings["batch_size"]
            rows = torch.randint(size, (seeds, batch), generator=draw)
            last = torch.arange(size - max(1, min(batch, size // 10)), size).expand(seeds, -1)
            if way == "held":
                last = HELD * torch.randint(-(-size // HELD), (seeds, batch), generator=draw)
                rows = torch.randint(size * (HELD - 1) // HELD, (seeds, batch), generator=draw)
                rows = rows + rows // (HELD - 1) + 1
            env = torch.randint(envs, (seeds, batch), generator=draw)
            sample = judged(rows, env, values)
            env = torch.randint(envs, last.shape, generator=draw)
            newest = judged(last, env, local if way == "local" else values)
            agents.step(agents.loss(outputs, sample, newest))
        if (row + 1) % (500 // envs) == 0:
            look(agents, found, (row + 1) * envs)
    for seed, each in enumerate(found):
        each |= {"task": task, "method": method, "seed": first + seed, "way": way}
        each["optimal"] = room.table.greedy_return(room.table.best)
        each["seconds"] = (time.process_time() - started) / seeds
    return found


@torch.no_grad()
def look(agents: Agents, found: list[dict[str, Any]], steps: int) -> None:
    room, outputs = agents.room, agents.outputs()
    q = agents.everywhere(outputs).numpy()
    states = torch.arange(room.count).expand(agents.seeds, -1)
    pairs = (ACTIONS * states[..., None] + torch.arange(ACTIONS)).flatten(1)
    alphas = let_go(agents.evidence(outputs[1], pairs)).unflatten(1, (-1, ACTIONS)).numpy()
    for own, alpha, each in zip(q, alphas, found, strict=True):
        each["steps"].append(steps)
        each["returns"].append(room.table.greedy_return(own))
        each["errors"].append(float(np.sqrt(((own - room.table.best) ** 2).mean())))
        if agents.relaxes:
            grids.describe_alpha(each, alpha, room.parts)
            each["alpha_by_agent"] = grids.by_agent(room.table, alpha.mean(axis=1))
            each["asymmetry_by_agent"] = grids.by_agent(room.table, room.asymmetry)
        else:
            each.pop("alpha", None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    task, method, numbers, folder, *options = sys.argv[1:]
    way = options[0] if options else "-"
    if task not in grids.TASKS or method not in METHODS or way not in WAYS:
        tasks, methods, ways = map(", ".join, (grids.TASKS, METHODS, WAYS))
        sys.exit(f"tasks are {tasks}; methods {methods}; ways {ways}")
    first, seeds = map(int, numbers.split(","))
    steps = int(options[1]) if len(options) > 1 else 12_000
    Path(folder).mkdir(parents=True, exist_ok=True)
    for each in run(task, method, way, first, seeds, steps):
        name = f"table-{task}-{method}-{way}-{each['seed']}.json"
        (Path(folder) / name).write_text(json.dumps(each))
    print(task, method, way, numbers, flush=True)
