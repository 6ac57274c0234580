"""Is the embedded base worth adapting? Test accuracy of the fine-tuned ensemble and of the same network trained from scratch.

Reads an experiment of fine-tuned vision transformers. Every seed's network is trained from a random start, all of its
parameters, on the same few images, by the same plan, and for ten times as many epochs.
Writes benchmarks/results/vit_from_scratch_<experiment>.csv. Cost on two CPU cores for ten seeds at 10 per class: two minutes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from tda.data.splits import Split
from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of
from tda.gradients.objectives import Classification
from tda.models.fine_tuning import AdapterTuning
from tda.models.model_state import read_state
from tda.models.training_plan import TrainingPlan
from tda.models.vit import NUM_LOGITS
from tda.models.vit_pretraining import new_network
from tda.system.command_line import run
from tda.system.devices import prepare_process
from tda.system.files import write_text
from tda.system.random_streams import stream_seed
from tda.training.many_models import train_many
from tda.training.members import load_member
from tda.training.runs import Run
from tda.training.study import open_study

RESULTS = Path(__file__).parent / "results"


@dataclass
class Settings:
    """The constants to edit."""

    experiment: str = "vit_digits3_10pc"
    """Folder below results/ of an ensemble that was fine-tuned from the embedded base."""
    longer: int = 10
    """The second training from scratch has so many times the plan's epochs."""


def from_scratch(plan: TrainingPlan, seeds: list[int], train: Split, test: Split) -> Iterator[float]:
    """Test accuracy of each seed's network after its last epoch."""
    channels, steps = train.inputs.shape[1], plan.epochs * plan.steps_per_epoch(len(train))
    runs, model = [], None
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "initialisation"))
            model = new_network(channels, NUM_LOGITS)
        runs.append(Run(read_state(model), plan.batches(seed, len(train)), [steps], seed=seed))
    for _, (snapshot,) in train_many(model.to(train.device), plan, Classification(), runs, train, evaluate_on=test):
        yield float((snapshot.evaluation.predictions == test.labels.cpu()).double().mean())


def main(settings: Settings) -> str:
    """Train, compare and write the table."""
    prepare_process()
    study = open_study(experiment_of(ResultsFolder(settings.experiment)))
    members = [load_member(study, seed_id, study.plan.kept_epochs[-1]) for seed_id in study.seed_ids()]
    first = members[0]
    # With crops, a family takes pixels, where it else takes what its base makes of them.
    as_images = replace(study, family=study.family.with_choices(AdapterTuning(random_crop=True)))
    train, test = as_images.inputs(study.train), as_images.inputs(study.test)
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
