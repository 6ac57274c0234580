"""Is the embedded base worth adapting? Test accuracy of the fine-tuned ensemble and of the same network trained from scratch.

Reads an experiment of fine-tuned vision transformers. Every seed's network is trained from a random start, all of its
parameters, on the same few images, by the same plan, and for ten times as many epochs.
Writes benchmarks/results/vit_from_scratch_<experiment>.csv. Cost on two CPU cores for ten seeds at 10 per class: two minutes.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from tda.data.splits import Split, load_split
from tda.data.tasks import task_named
from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of
from tda.experiments.seeds import load_seeds
from tda.models.families import family_named
from tda.models.fine_tuning import FineTuning
from tda.models.model_state import read_state
from tda.models.training_plan import TrainingPlan
from tda.models.vit import NUM_LOGITS
from tda.models.vit_pretraining import new_network
from tda.system.command_line import run
from tda.system.devices import pick_device, prepare_process
from tda.system.files import write_text
from tda.system.random_streams import stream_seed
from tda.training.many_models import train_many
from tda.training.members import load_member
from tda.training.runs import Run

RESULTS = Path(__file__).parent / "results"


@dataclass
class Settings:
    """The constants to edit."""

    experiment: str = "vit_digits3_10pc"
    """Folder below results/ of an ensemble that was fine-tuned from the embedded base."""
    longer: int = 10
    """The second training from scratch has so many times the plan's epochs."""


class Logits(nn.Module):
    """A transformers classifier that returns nothing but logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (b, classes) of pixel values (b, c, h, w)."""
        return self.network(images).logits


def from_scratch(plan: TrainingPlan, seeds: list[int], train: Split, test: Split) -> Iterator[float]:
    """Test accuracy of each seed's network after its last epoch."""
    channels, steps = train.images.shape[1], plan.epochs * plan.steps_per_epoch(len(train))
    runs, model = [], None
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "initialisation"))
            model = Logits(new_network(channels, NUM_LOGITS))
        runs.append(Run(read_state(model), plan.batches(seed, len(train)), [steps], seed=seed))
    for _, (snapshot,) in train_many(copy.deepcopy(model).to(train.images.device), plan, runs, train, evaluate_on=test):
        yield float((snapshot.evaluation.predictions == test.labels.cpu()).double().mean())


def main(settings: Settings) -> str:
    """Train, compare and write the table."""
    prepare_process()
    experiment = experiment_of(ResultsFolder(settings.experiment))
    data, test_data = load_split(experiment.task, "train", experiment.num_per_class), load_split(experiment.task, "test")
    last = family_named(experiment.model).plan(task_named(experiment.task)).kept_epochs[-1]
    members = [load_member(experiment, number, last, data.fingerprint(), pick_device()) for number in range(len(load_seeds()))]
    first = members[0]
    as_images = replace(first, experiment=replace(first.experiment, fine_tuning=FineTuning(random_crop=True)))
    train, test = as_images.inputs(data), as_images.inputs(test_data)
    seeds = [member.seed for member in members]
    found = {f"fine-tuned from the base, {first.plan.epochs} epochs": [member.info["test_accuracy"] for member in members]}
    for epochs in (first.plan.epochs, settings.longer * first.plan.epochs):
        plan = replace(first.plan, epochs=epochs)
        found[f"from scratch, {epochs} epochs"] = list(from_scratch(plan, seeds, train, test))
    columns = {"mean": "mean", "smallest": "min", "largest": "max"}
    rows = [
        {"training": name, "seeds": len(values)} | {key: getattr(pd.Series(values), how)() for key, how in columns.items()}
        for name, values in found.items()
    ]
    path = RESULTS / f"vit_from_scratch_{settings.experiment}.csv"
    write_text(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.4f"))
    return f"wrote {path}"


if __name__ == "__main__":
    run(Settings(), __doc__, main)
