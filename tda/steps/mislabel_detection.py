"""Find training examples with a wrong label by self-influence: how much an example helps its own (wrong) label."""

from dataclasses import dataclass, replace

import pandas as pd

from tda.debiasing.wrong_labels import flip_labels, self_influence
from tda.experiments.folders import Experiment
from tda.methods import method_named
from tda.scores.tables import write_table
from tda.statistics.area_under_curve import area_under_curve
from tda.system.devices import prepare_process
from tda.training.ensembles import members_in_memory
from tda.training.study import open_study


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
    methods = [method_named(name) for name in settings.methods.split(",")]
    study = open_study(Experiment(settings.model, settings.task, settings.num_per_class), settings.device)
    train, flipped = flip_labels(study.train, settings.share, len(study.task.classes))
    study = replace(study, train=train)
    rows = []
    with study.step("mislabel detection", vars(settings), {"train": train.fingerprint}):
        inputs = study.inputs(train)
        for member in members_in_memory(study, study.seed_ids(settings.seed_id)):
            for method in methods:
                scores = self_influence(method, member, inputs)
                area = area_under_curve(scores.double().cpu().numpy(), flipped.numpy())
                rows.append({"method": method.name, "seed_id": member.seed_id, "area_under_curve": area})
        path = study.results.path / "mislabel_detection.csv"
        write_table(path, pd.DataFrame(rows))
    means = pd.DataFrame(rows).groupby("method")["area_under_curve"].mean()
    found = ", ".join(f"{name} {area:.3f}" for name, area in means.items())
    return f"wrote {path}; mean area under the curve: {found}"
