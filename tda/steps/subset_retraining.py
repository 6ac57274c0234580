"""Retraining on random subsets of the training set: the ground truth that attributions are judged by, and fitted to.

Two disjoint families of subsets are drawn, by purpose: "evaluation" subsets judge; "fitting" subsets are what
datamodels, empirical influence and the choice of damping may see.
"""

from dataclasses import dataclass

from tda.experiments.folders import Experiment
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.retrainings import RetrainingStore
from tda.training.study import open_study
from tda.training.subset_draws import SubsetDraw


@dataclass
class SubsetRetrainingSettings:
    """The arguments of the retraining script."""

    model: str = "mlp"
    """Model to retrain: lr, mlp, cnn, cnn3 or resnet9."""
    task: str = "mnist"
    """Task whose examples the models are trained on."""
    num_per_class: int = 500
    """Training examples per class of the experiment, of which each subset holds a share."""
    purpose: str = "evaluation"
    """evaluation: subsets that judge the methods; fitting: subsets for datamodels, empirical influence and choosing damping."""
    alpha: float = 0.5
    """Share of the training examples in a subset."""
    num_subsets: int = 100
    """Number of subsets to retrain on."""
    num_seeds: int = 6
    """Retrainings of each subset, with different initialisation and batch order."""
    first_subset: int = 0
    """Retrain only from this subset on, counted from 0; with --num_subsets as its end, several processes can share the work."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""


def retrain_subsets(settings: SubsetRetrainingSettings) -> str:
    """Do the retrainings that are missing; returns the closing line. Raises UserError for unusable settings or files."""
    prepare_process()
    draw = SubsetDraw(settings.purpose, settings.alpha, settings.num_subsets, settings.num_seeds)
    if not 0 <= settings.first_subset < settings.num_subsets:
        raise UserError(f"--first_subset {settings.first_subset} must lie in 0 to {settings.num_subsets - 1}")
    study = open_study(Experiment(settings.model, settings.task, settings.num_per_class), settings.device)
    store = RetrainingStore(study)
    retrainings = draw.retrainings(len(study.train), settings.first_subset)
    name = f"{settings.purpose} subset retraining" + (f" from {settings.first_subset}" if settings.first_subset else "")
    with study.step(name, vars(settings)) as record:
        written = store.fill(retrainings, name)
        record.keep_earlier = written == 0
    folder = store.paths(retrainings[:1])[0].parent
    return f"retrained {written} models, kept {len(retrainings) - written} that were finished, in {folder}"
