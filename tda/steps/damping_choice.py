"""Choose a method's damping by subsets that judge nothing: the LDS of each candidate on retrainings of "fitting" subsets."""

from dataclasses import dataclass

import pandas as pd

from tda.experiments.folders import Experiment
from tda.methods import method_named
from tda.scores.tables import write_table
from tda.statistics.linear_datamodeling_score import lds, lds_of_each, predictions
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.members import load_members
from tda.training.retrainings import RetrainingStore
from tda.training.study import open_study
from tda.training.subset_draws import SubsetDraw, load_subset_outputs


@dataclass
class DampingSettings:
    """The arguments of the choice."""

    model: str = "mlp"
    """Model family of the ensemble."""
    task: str = "mnist"
    """Task of the ensemble."""
    num_per_class: int = 500
    """Training examples per class of the ensemble."""
    method: str = "kernel_trajectory"
    """Method whose setting is chosen."""
    setting: str = "ridge_factor"
    """The number: ridge_factor of kernel_trajectory, ridge of trak, damping of if or if_trajectory."""
    candidates: str = "0.1,0.3,1,3"
    """Values to compare, separated by commas."""
    alpha: float = 0.5
    """Share of the training examples in a subset, as retrained."""
    num_subsets: int = 100
    """Number of fitting subsets."""
    num_seeds: int = 1
    """Retrainings of each fitting subset."""
    seed_id: int = 0
    """Seed of random_seeds.pt whose member is scored, counted from 0."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""


def choose_damping(settings: DampingSettings) -> str:
    """Write damping_choice_<method>.csv, a row for each candidate; returns the closing line, which names the best.

    Raises UserError for unusable settings, or if the member or the retrainings are missing.
    """
    prepare_process()
    method = method_named(settings.method)
    candidates = _parsed(settings, method.settings)
    study = open_study(Experiment(settings.model, settings.task, settings.num_per_class), settings.device)
    draw = SubsetDraw("fitting", settings.alpha, settings.num_subsets, settings.num_seeds)
    outputs = load_subset_outputs(RetrainingStore(study), draw)
    masks, margins = outputs.masks.numpy(), outputs.margins.numpy()
    (seed_id,) = study.seed_ids(settings.seed_id)
    rows = []
    with study.step(f"damping of {method.name}", vars(settings)):
        members = load_members(study, seed_id, study.plan.kept_epochs[-1:])
        train, test = (members[0].study.inputs(split) for split in (study.train, study.test))
        for value in candidates:
            (found,) = method.score(members, train, test, method.settings | {settings.setting: value})
            predicted = predictions(masks, found.scores.double().cpu().numpy())
            mean = lds([predicted], margins.mean(axis=0))
            single = sum(lds_of_each(predicted, one).mean() for one in margins) / len(margins)
            judged = mean.columns("lds") | {"lds_single_retraining": single}
            rows.append({"method": method.name, "setting": settings.setting, "value": value, "seed_id": seed_id} | judged)
        table = pd.DataFrame(rows)
        path = study.results.path / f"damping_choice_{method.name}.csv"
        write_table(path, table)
    best = table.sort_values("lds").iloc[-1]
    return f"wrote {path}; highest LDS on fitting subsets: {best['lds']:.3f}, with {settings.setting} {best['value']:g}"


def _parsed(settings: DampingSettings, known: dict) -> list[float]:
    if settings.setting not in known:
        raise UserError(f"method {settings.method} has no setting {settings.setting}; it has {', '.join(known) or 'none'}")
    try:
        return [float(value) for value in settings.candidates.split(",")]
    except ValueError as error:
        raise UserError(f"--candidates are numbers separated by commas, such as 0.1,1, not {settings.candidates!r}") from error
