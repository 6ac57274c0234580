"""How suspicious each training label is, by baselines and by ours: (seeds, n_train) float64, higher = rather wrong.

| name | by what |
| --- | --- |
| loss, margin | the trained member's loss of the given label; minus its margin |
| gradient_norm | length of the loss's gradient by all trained parameters (GraNd, Paul et al. 2021) |
| neighbours | share of the 20 nearest examples, by cosine of the classifier's inputs, with another label |
| forgetting, area_under_margin | what the training said on the way (see training_history) |
| out_of_fold | 1 - p of the label by models that never saw the example |
| cleanlab | the same probabilities by confident learning (the package cleanlab) |
| kernel, kernel_posterior | exact leave-one-out predictions by the *untrained* start's layers; the chance of a wrong label |
| trained_kernel, trained_kernel_posterior | the same by the layers of the trained member, which saw the labels |

The start of a fine-tuned family is its base model, which saw none of these labels; of a network with random weights it is not
worth much.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.data.splits import Split
from tda.debiasing.confident_learning import adjusted_suspicion, require_cleanlab
from tda.debiasing.left_out_predictions import MOST_LAYERS, left_out_predictions, posterior_wrong
from tda.debiasing.out_of_fold import out_of_fold_probabilities
from tda.debiasing.training_history import training_history
from tda.debiasing.wrong_labels import self_influence
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.layer_inputs import layer_inputs
from tda.gradients.representations import penultimate_representations
from tda.methods.registry import Method
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.inputs import Inputs
from tda.training.evaluation import evaluate
from tda.training.members import Member
from tda.training.study import Study

NEIGHBOURS = 20


@dataclass(frozen=True)
class Suspects:
    """Members whose training labels are suspected: the last checkpoint of each seed, on the inputs of the training split."""

    study: Study
    members: list[Member]
    num_folds: int

    @cached_property
    def train(self) -> Split:
        """The training split as the members' models take it."""
        return self.members[0].study.inputs(self.study.train)

    @cached_property
    def seed_ids(self) -> list[int]:
        """The members' seeds."""
        return [member.seed_id for member in self.members]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Out-of-fold probabilities (seeds, n_train, C)."""
        return out_of_fold_probabilities(self.members[0].study, self.seed_ids, self.num_folds)

    @cached_property
    def history(self) -> tuple[np.ndarray, np.ndarray]:
        """Forgetting and mean margins (seeds, n_train)."""
        return training_history(self.members[0].study, self.seed_ids)

    @cached_property
    def labels(self) -> np.ndarray:
        """The given labels (n_train,)."""
        return self.study.train.labels.numpy()

    @cached_property
    def by_start(self) -> list[tuple[Tensor, Tensor]]:
        """Left-out suspicions and posteriors by the untrained start of each seed; of a fine-tuned family all have one base."""
        one_base = self.members[0].study.family.choices is not None
        starts = self.members[:1] if one_base else self.members
        found = [self._left_out(on_device(start.study.new_model(start.seed), start.device).eval()) for start in starts]
        return found * len(self.members) if one_base else found

    @cached_property
    def by_trained(self) -> list[tuple[Tensor, Tensor]]:
        """The same by the trained members."""
        return [self._left_out(member.model) for member in self.members]

    @cached_property
    def whole_inputs(self) -> Inputs:
        """What all layers of a model take: images themselves, where a family keeps what its frozen layers make of them."""
        inputs, study = self.study.train.inputs, self.members[0].study
        if isinstance(inputs, Tensor) and inputs.dim() == 4:
            return study.family.pixels(study.task, inputs).images.to(study.device)
        return self.train.inputs

    def _left_out(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        labels = self.study.train.labels
        layers = [rows.cpu() for rows in layer_inputs(model, self.whole_inputs, MOST_LAYERS)]
        found = left_out_predictions(layers, labels, len(self.study.task.classes))
        return 1 - found.probabilities.gather(1, labels[:, None]).squeeze(1), posterior_wrong(found, labels)

    def of_members(self, function: Callable[[Member], Tensor]) -> np.ndarray:
        """A function of each member (n_train,), as (seeds, n_train) float64."""
        return np.stack([function(member).double().cpu().numpy() for member in self.members])


def _losses(suspects: Suspects) -> np.ndarray:
    return suspects.of_members(lambda member: evaluate(member.model, member.objective, suspects.train).losses)


def _margins(suspects: Suspects) -> np.ndarray:
    return suspects.of_members(lambda member: -evaluate(member.model, member.objective, suspects.train).margins)


def _gradient_norms(suspects: Suspects) -> np.ndarray:
    train = suspects.train
    left, right = (train.inputs, train.labels), (train[:1].inputs, train[:1].labels)
    return suspects.of_members(lambda member: gradient_kernel(member.model, left, right, member.objective.loss).left_norms)


def _neighbours(suspects: Suspects) -> np.ndarray:
    def disagreement(member: Member) -> Tensor:
        return neighbour_disagreement(penultimate_representations(member.model, suspects.train.inputs), suspects.train.labels)

    return suspects.of_members(disagreement)


def neighbour_disagreement(representations: Tensor, labels: Tensor, count: int = NEIGHBOURS) -> Tensor:
    """Share (n,) of the `count` nearest other examples, by cosine of representations (n, d), whose label is another."""
    rows = functional.normalize(representations, dim=1, eps=torch.finfo(representations.dtype).tiny)
    cosines = (rows @ rows.T).fill_diagonal_(-torch.inf)
    nearest = cosines.topk(min(count, len(labels) - 1), dim=1).indices
    return (labels[nearest] != labels[:, None]).double().mean(dim=1)


def _out_of_fold(suspects: Suspects) -> np.ndarray:
    return 1 - suspects.probabilities[:, np.arange(len(suspects.labels)), suspects.labels]


def _cleanlab(suspects: Suspects) -> np.ndarray:
    return np.stack([adjusted_suspicion(suspects.labels, of_seed) for of_seed in suspects.probabilities])


SUSPICIONS: dict[str, Callable[[Suspects], np.ndarray]] = {
    "loss": _losses,
    "margin": _margins,
    "gradient_norm": _gradient_norms,
    "neighbours": _neighbours,
    "forgetting": lambda suspects: suspects.history[0],
    "area_under_margin": lambda suspects: suspects.history[1],
    "out_of_fold": _out_of_fold,
    "cleanlab": _cleanlab,
    "kernel": lambda suspects: np.stack([one for one, _ in suspects.by_start]),
    "kernel_posterior": lambda suspects: np.stack([posterior for _, posterior in suspects.by_start]),
    "trained_kernel": lambda suspects: np.stack([one for one, _ in suspects.by_trained]),
    "trained_kernel_posterior": lambda suspects: np.stack([posterior for _, posterior in suspects.by_trained]),
}


def check_suspicions(names: Sequence[str]) -> None:
    """Raise UserError for unknown names, and for cleanlab where it is missing."""
    if unknown := [name for name in names if name not in SUSPICIONS]:
        raise UserError(f"unknown suspicion {unknown[0]}; known ones are {', '.join(SUSPICIONS)}")
    if "cleanlab" in names:
        require_cleanlab()


def suspicion(suspects: Suspects, name: str) -> np.ndarray:
    """One of the table above: (seeds, n_train) float64, higher = rather wrong."""
    return SUSPICIONS[name](suspects)


def self_influences(suspects: Suspects, method: Method) -> np.ndarray:
    """How much each training example helps its own label (seeds, n_train), by a method's default settings."""
    return suspects.of_members(lambda member: self_influence(method, member, suspects.train))
