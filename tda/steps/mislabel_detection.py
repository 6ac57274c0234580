"""Find training examples with a wrong label by self-influence: how much an example helps its own (wrong) label."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tda.data.splits import Split, load_split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.experiments.manifest import step
from tda.experiments.seeds import chosen_seed_ids, seed_of, stream
from tda.methods import method_named
from tda.models.families import family_of, new_model
from tda.system.devices import pick_device, prepare_process
from tda.system.errors import UserError
from tda.system.files import write_text
from tda.training.ensembles import seed_run
from tda.training.many_models import on_device, train_many
from tda.training.members import Member, model_inputs


@dataclass
class MislabelSettings:
    """The arguments of the mislabel script."""

    model: str = "mlp"
    """Family of the models that are trained."""
    task: str = "mnist"
    """Task whose labels are flipped."""
    num_per_class: int = 500
    """Training examples per class."""
    methods: str = "grad_dot,grad_cos,trak"
    """Methods to judge, which must need no other file than a member's checkpoint."""
    share: float = 0.1
    """Share of the training labels that are changed to another class."""
    seed_id: int | None = None
    """Train only this seed of random_seeds.pt, counted from 0; without it all seeds."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""


def detect_mislabels(settings: MislabelSettings) -> str:
    """Train members on data with flipped labels and write mislabel_detection.csv; returns the closing line.

    Raises UserError for unusable settings or unknown methods.
    """
    prepare_process()
    device = pick_device(settings.device)
    experiment = Experiment(settings.model, settings.task, settings.num_per_class)
    methods = [method_named(name) for name in settings.methods.split(",")]
    clean = load_split(settings.task, "train", settings.num_per_class)
    train, flipped = flip_labels(clean, settings.share, len(task_named(settings.task).classes))
    rows = []
    with step(experiment, "mislabel detection", vars(settings), {"train": train.fingerprint()}, device):
        inputs = model_inputs(family_of(experiment), task_named(experiment.task), train, device)
        for member in _members(experiment, chosen_seed_ids(settings.seed_id), inputs, device):
            for method in methods:
                (found,) = method.score([member], inputs, inputs, method.settings)
                area = area_under_curve(found.scores.diagonal(), flipped)
                rows.append({"method": method.name, "seed_id": member.seed_id, "area_under_curve": area})
        path = experiment.results.path / "mislabel_detection.csv"
        write_text(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
    means = pd.DataFrame(rows).groupby("method")["area_under_curve"].mean()
    found = ", ".join(f"{name} {area:.3f}" for name, area in means.items())
    return f"wrote {path}; mean area under the curve: {found}"


def flip_labels(split: Split, share: float, num_classes: int) -> tuple[Split, Tensor]:
    """A split in which a share of the labels is another class's, and which they are (n,) bool; always the same draw.

    Raises UserError if the share leaves no label right or none wrong.
    """
    count = round(share * len(split))
    if not 0 < count < len(split):
        raise UserError(f"--share {share} flips none or all of {len(split)} labels; choose a number between 0 and 1")
    generator = stream(0, "flipped labels")
    chosen = torch.randperm(len(split), generator=generator)[:count]
    labels, flipped = split.labels.clone(), torch.zeros(len(split), dtype=torch.bool)
    shift = torch.randint(1, num_classes, (count,), generator=generator)
    labels[chosen] = (labels[chosen] + shift) % num_classes
    flipped[chosen] = True
    return replace(split, labels=labels), flipped


def area_under_curve(self_influence: Tensor, flipped: Tensor) -> float:
    """Chance that a flipped example has the higher self-influence than one that is not: 0.5 by guessing, 1 at best."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(flipped.numpy(), self_influence.double().cpu().numpy().astype(np.float64)))


def _members(experiment: Experiment, seed_ids: list[int], train: Split, device: torch.device) -> list[Member]:
    """The last checkpoint of each seed, trained on these examples and kept in memory."""
    family, task = family_of(experiment), task_named(experiment.task)
    last = family.plan(task).epochs
    runs = [seed_run(experiment, seed_of(seed_id), len(train), epochs=[last]) for seed_id in seed_ids]
    model = on_device(new_model(family, task, seed=0), device)
    trained = dict(train_many(model, family.plan(task), runs, train, keep_states=True))
    members = [
        Member(experiment, seed_id, last, trained[number][0].state, {"seed": seed_of(seed_id)}, device)
        for number, seed_id in enumerate(seed_ids)
    ]
    for member in members:
        # Building a model borrows torch's global generator, which threads that score members must not do.
        _ = member.model
    return members
