"""The training step of every model family: settings, record, closing line."""

from dataclasses import dataclass

from tda.experiments.folders import Experiment
from tda.models.fine_tuning import FineTuning
from tda.models.training_plan import parse_epochs
from tda.system.devices import prepare_process
from tda.training.ensembles import train_ensemble
from tda.training.study import open_study


@dataclass
class TrainingSettings:
    """The arguments that every training script has."""

    model: str = "cnn"
    """Model to train: cnn (two convolutions), cnn3 (three), lr (logistic regression), mlp, resnet9 or vit (fine-tuned)."""
    task: str = "digits3"
    """Task to train on, an entry of tda/tasks.py: digits3, mnist3, mnist, cifar10, cifar2, ..."""
    num_per_class: int = 10
    """Training examples per class; the index file must have been drawn."""
    seed_id: int | None = None
    """Train only this seed of random_seeds.pt, counted from 0; without it all seeds are trained."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""
    force: bool = False
    """Train again what is finished already."""
    early_epochs: str = ""
    """Epochs to keep besides those that are scored, such as 1,2,5, for methods that follow the training."""

    @property
    def experiment(self) -> Experiment:
        """The experiment that is trained."""
        return Experiment(self.model, self.task, self.num_per_class)

    @property
    def fine_tuning(self) -> FineTuning | None:
        """Choices of fine-tuning, where members are made so."""
        return None


def train_experiment(settings: TrainingSettings) -> str:
    """Train the members that are missing; returns the closing line. Raises UserError for unusable settings or files."""
    prepare_process()
    study = open_study(settings.experiment, settings.device, settings.fine_tuning)
    seed_ids = study.seed_ids(settings.seed_id)
    name = "training" if settings.seed_id is None else f"training, seed {settings.seed_id}"
    with study.step(name, vars(settings)) as record:
        trained = train_ensemble(study, seed_ids, settings.force, parse_epochs(settings.early_epochs))
        record.keep_earlier = trained == 0
    folder = study.experiment.seed_folder(seed_ids[0]).parent
    return f"trained {trained} seeds, kept {len(seed_ids) - trained} that were finished, in {folder}"
