"""Trainings at weights of the examples that move along a line, which metasmoothness is measured on: a file a seed and probe.

All trainings of a seed share its start, its batches and what its steps draw, so that nothing but the weights differs.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tda.statistics.smoothness import sign_agreement
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.random_streams import stream
from tda.system.tensor_files import read_tensors, write_tensors
from tda.system.tensor_heads import DamagedFileError
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.runs import Evaluation
from tda.training.study import Study

SMALL_STEP = 1 / 64
"""How far a removal is begun where the rest of it is to be told: far enough for single precision, near enough to be a slope."""


@dataclass(frozen=True)
class Probe:
    """Directions v in the space of the training examples' weights, and how far they are followed from 1.

    removed: so many random examples lose weight, v = -1 for each, and at the end they are gone; 0: every example's weight
    moves by a standard normal number. step: h; the training is looked at after 0, h and 2 h. num_directions: how many v.
    """

    removed: int
    step: float
    num_directions: int

    def directions(self, num_train: int) -> Tensor:
        """(num_directions, num_train) float64, the same for every seed and plan."""
        rows = []
        for number in range(self.num_directions):
            generator = stream(number, f"direction of metasmoothness, {self.removed} removed")
            if self.removed:
                rows.append(torch.zeros(num_train, dtype=torch.float64))
                rows[-1][torch.randperm(num_train, generator=generator)[: self.removed]] = -1
            else:
                rows.append(torch.randn(num_train, generator=generator, dtype=torch.float64))
        return torch.stack(rows)

    @property
    def lengths(self) -> tuple[float, ...]:
        """How far each direction is followed: the two points of the definition and, for removals, a small step."""
        return (self.step, 2 * self.step, *((SMALL_STEP,) if self.removed else ()))


def removal(count: int, num_directions: int) -> Probe:
    """The probe that takes examples away, by way of half their weight."""
    return Probe(count, 0.5, num_directions)


@dataclass(frozen=True)
class Probed:
    """What one seed's trainings along a probe's directions were found to be.

    agreement: (D,) sign agreement of the trained parameters. accuracy: () share of right predictions at weight 1. losses:
    (n_test,) test losses there, nats, and margins likewise. along: (lengths, D, n_test) test losses after each length, and
    margins_along, which a small step moves by more than a loss near 0 is rounded to.
    """

    agreement: np.ndarray
    accuracy: np.ndarray
    losses: np.ndarray
    along: np.ndarray
    margins: np.ndarray
    margins_along: np.ndarray


def probe_seed(study: Study, seed_id: int, probe: Probe, force: bool = False) -> bool:
    """Train along a probe's directions and write what was found, unless it is there; returns whether it was not.

    Raises UserError for more removed examples than there are, and if a training diverges.
    """
    path = probe_file(study, seed_id, probe)
    if not force and _read(path) is not None:
        return False
    if probe.removed >= len(study.train):
        raise UserError(f"--removed {probe.removed} leaves nothing of {len(study.train)} training examples; remove fewer")
    weights = [torch.ones(len(study.train), dtype=torch.float64)]
    directions = probe.directions(len(study.train))
    weights += [1 + length * direction for length in probe.lengths for direction in directions]
    parameters, evaluations = _trained(study, seed_id, weights)
    losses, margins = (torch.stack([getattr(each, name).double() for each in evaluations]) for name in ("losses", "margins"))
    if not (torch.isfinite(losses).all() and torch.isfinite(margins).all()):
        raise UserError(f"a training of {study.experiment.name} diverged; {path} was not written")
    start, middle, end = parameters[0], parameters[1 : 1 + len(directions)], parameters[1 + len(directions) :]
    agreement = [float(sign_agreement(start, *pair)) for pair in zip(middle, end[: len(directions)], strict=True)]
    correct = study.task.objective.correct(evaluations[0].predictions, study.test.labels)
    tensors = {
        "agreement": torch.tensor(agreement, dtype=torch.float64),
        "accuracy": correct.double().mean(),
        "losses": losses[0].clone(),
        "along": losses[1:].view(len(probe.lengths), len(directions), -1).clone(),
        "margins": margins[0].clone(),
        "margins_along": margins[1:].view(len(probe.lengths), len(directions), -1).clone(),
    }
    write_tensors(path, tensors, {})
    return True


def probed_seeds(study: Study, probe: Probe) -> dict[int, Probed]:
    """What was found of every seed that was probed, by its id."""
    found = {seed_id: _read(probe_file(study, seed_id, probe)) for seed_id in range(len(study.seeds))}
    return {seed_id: each for seed_id, each in found.items() if each is not None}


def probe_file(study: Study, seed_id: int, probe: Probe) -> Path:
    """The file of a seed and probe, named after a hash of all that its numbers depend on."""
    made_from = study.plan.as_dict() | study.family.origin(study.task)
    parts = (*study.hashes.values(), sorted(made_from.items()), study.seed(seed_id), astuple(probe), probe.lengths)
    return study.results.probe_file(sha256(repr(parts).encode())[:24])


def _trained(study: Study, seed_id: int, weights: Sequence[Tensor]) -> tuple[list[np.ndarray], list[Evaluation]]:
    """The parameters (p,) float64 of the seed's last model at each weights, and what it says of the test examples."""
    epochs, seed = [study.plan.epochs], study.seed(seed_id)
    runs = [seed_run(study, seed, each.float().to(study.device), epochs) for each in weights]
    train, test = study.inputs(study.train), study.inputs(study.test)
    model = on_device(study.new_model(), study.device)
    parameters, evaluations = {}, {}
    trained = train_many(model, study.plan, study.task.objective, runs, train, test, keep_states=True)
    for number, (snapshot,) in tqdm(trained, total=len(runs), desc=f"trainings of seed {seed_id}", delay=2, leave=False):
        tensors = snapshot.state.parameters.values()
        parameters[number] = torch.cat([tensor.flatten() for tensor in tensors]).double().numpy()
        evaluations[number] = snapshot.evaluation
    numbers = range(len(runs))
    return [parameters[number] for number in numbers], [evaluations[number] for number in numbers]


def _read(path: Path) -> Probed | None:
    if not path.exists():
        return None
    try:
        tensors, _ = read_tensors(path)
        return Probed(**{name: tensors[name].numpy() for name in Probed.__dataclass_fields__})
    except (DamagedFileError, KeyError):
        return None
