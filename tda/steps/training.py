"""Step 2: train an ensemble's members that are missing."""

from dataclasses import fields

from tda.experiments.manifest import chosen_experiment
from tda.models import fine_tuning
from tda.models.families import family_named
from tda.settings import AdapterTuning, LanguageTraining, LayerTuning, PairTuning, TextTuning, Training
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.ensembles import train_ensemble
from tda.training.study import open_study

_KINDS = {
    AdapterTuning: fine_tuning.AdapterTuning,
    LayerTuning: fine_tuning.LayerTuning,
    TextTuning: fine_tuning.TextTuning,
    LanguageTraining: fine_tuning.LanguageTuning,
    PairTuning: fine_tuning.PairTuning,
}


def main(settings: Training) -> str:
    """Train the members that are missing; returns the closing line. Raises UserError for unusable settings or files."""
    prepare_process()
    experiment = chosen_experiment(settings)
    study = open_study(experiment, settings.device, _choices(settings, experiment.model), may_learn_more=True)
    seed_ids = study.seed_ids(settings.seed_id, settings.num_seeds)
    if getattr(study.family.choices, "base", None) == fine_tuning.EMBEDDED_BASE:
        # Only here, so that the trainings of other models do not read it.
        from tda.models.vit_pretraining import check_unseen

        check_unseen(study.task, study.train.indices.numpy())
    with study.step("training", vars(settings), seed_ids=seed_ids) as record:
        trained = train_ensemble(study, seed_ids, settings.force, settings.early_epochs)
        record.keep_earlier = trained == 0
    folder = study.experiment.seed_folder(seed_ids[0]).parent
    return f"trained {trained} seeds, kept {len(seed_ids) - trained} that were finished, in {folder}"


def _choices(settings: Training, model: str) -> fine_tuning.FineTuning | None:
    """Choices of fine-tuning, where members are made so; raises UserError for a model that needs them in a script without."""
    kind, family = _KINDS.get(type(settings)), family_named(model)
    from_scratch = isinstance(settings, LanguageTraining) and family.fine_tuned is None
    if kind is None or from_scratch:
        if family.fine_tuned is not None:
            raise UserError(f"model {model} is fine-tuned from a base; train it with {family.training_script}")
        return None
    return kind(**{entry.name: getattr(settings, entry.name) for entry in fields(kind)})
