"""What every script that works on an experiment takes, whatever it does there."""

import math
from dataclasses import dataclass
from typing import ClassVar

from tda.system.errors import UserError


@dataclass(kw_only=True)
class OfExperiment:
    """Which experiment, on which device, and whether what is finished counts."""

    # Only one of each tuple of alternatives can be given on the command line; it replaces the others of the script.
    alternatives: ClassVar[tuple[tuple[tuple[str, ...], ...], ...]] = (
        (("experiment",), ("model", "task", "num_per_class", "variant")),
    )

    experiment: str | None = None
    """Name of an experiment, such as cnn_digits3_10pc, instead of the four below; it must have results already."""
    model: str
    """Model family: cnn, cnn3, lr (logistic regression), mlp, resnet9; of texts: gpt, gpt_mini, t5, t5_mini; fine-tuned: vit,
    resnet18, efficientnet_lite0, of texts bert, smollm2 and t5_lora, of images with texts clip."""
    task: str
    """Task: digits3, mnist3, cifar10, cifar10n_worst, another of tda/data/tasks.py, or your own; it may end in _flipped20, or
    in _whole for models that learn from all examples.
    """
    num_per_class: int
    """Training examples per class, of a task that ends in _whole those that are scored; the index file must have been drawn."""
    variant: str = ""
    """Options of training, which end the name, such as inside1e-8_rate3e-4 (docs/training-plans.md); plain: none of them."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""
    force: bool = False
    """Compute again what is finished already."""


@dataclass(kw_only=True)
class OfSeeds(OfExperiment):
    """A script that can be told to do some of the ensemble's seeds alone."""

    alternatives: ClassVar = (*OfExperiment.alternatives, (("seed_id",), ("num_seeds",)))

    seed_id: int | None = None
    """Only this seed of random_seeds.pt, counted from 0; without it all."""
    num_seeds: int | None = None
    """Only so many of random_seeds.pt, the first ones; without it all."""


@dataclass(kw_only=True)
class OfScores(OfExperiment):
    """A script that reads the scores of an ensemble."""

    num_seeds: int | None = None
    """Only so many of random_seeds.pt, the first ones; without it all that are trained, of which none may lack its scores."""


def check_counts(settings: object, *names: str) -> None:
    """Raise UserError unless each of these settings is 1 or more."""
    for name in names:
        if getattr(settings, name) < 1:
            raise UserError(f"--{name} {getattr(settings, name)} is too small; choose 1 or more")


def budget_in_bytes(gibibytes: float | None) -> int | None:
    """A --memory_budget in bytes, None without one; raises UserError unless it is positive and finite."""
    if gibibytes is None:
        return None
    if not 0 < gibibytes * 2**30 < math.inf:
        raise UserError(f"--memory_budget {gibibytes} is no amount of memory; give GiB, such as 4, or leave it out")
    return round(gibibytes * 2**30)
