"""Score an experiment's members by registered methods, keep one file a member, and skip what is finished."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from tda.experiments.folders import Experiment
from tda.methods import Method, method_named
from tda.scores.score_files import load_score_file, save_scores
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.members import load_members
from tda.training.study import Study, open_study


@dataclass
class ScoringSettings:
    """The arguments that every scoring script has."""

    model: str = "cnn"
    """Model family of the ensemble."""
    task: str = "digits3"
    """Task of the ensemble, an entry of tda/tasks.py: digits3, mnist3, cifar10, ..."""
    num_per_class: int = 10
    """Training examples per class of the ensemble."""
    seed_id: int | None = None
    """Score only this seed of random_seeds.pt, counted from 0; without it all seeds are scored."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""
    force: bool = False
    """Compute again what is finished already."""

    @property
    def experiment(self) -> Experiment:
        """The experiment that is scored."""
        return Experiment(self.model, self.task, self.num_per_class)


def score_experiment(settings: ScoringSettings, method_settings: dict[str, dict]) -> str:
    """Score by each named method, with settings that differ from its defaults; returns the closing line.

    Raises UserError for unknown names, missing or foreign inputs, and score files of other settings (unless forced).
    """
    prepare_process()
    methods = {name: method_named(name) for name in method_settings}
    for name, changed in method_settings.items():
        if unknown := sorted(changed.keys() - methods[name].settings.keys()):
            raise UserError(f"method {name} has no setting {unknown[0]}; it has {', '.join(methods[name].settings) or 'none'}")
    chosen = {name: {**methods[name].settings, **changed} for name, changed in method_settings.items()}
    study = open_study(settings.experiment, settings.device)
    seed_ids, epochs = study.seed_ids(settings.seed_id), study.plan.kept_epochs
    title = "scoring " + " and ".join(methods)
    written = 0
    step_name = title if settings.seed_id is None else f"{title}, seed {settings.seed_id}"
    with study.step(step_name, vars(settings) | {"methods": chosen}) as record:
        for seed_id in tqdm(seed_ids, desc=title, delay=2):
            written += score_seed(study, seed_id, [(methods[name], chosen[name]) for name in methods], settings.force)
        record.keep_earlier = written == 0
    kept = len(seed_ids) * len(epochs) * len(methods) - written
    folders = ", ".join(str(study.results.score_folder(name)) for name in methods)
    return f"wrote {written} score files, kept {kept} that were finished, in {folders}"


def score_seed(study: Study, seed_id: int, methods: Sequence[tuple[Method, dict]], force: bool) -> int:
    """Write the score files of one seed that are missing, of methods with their settings; returns how many were written."""
    epochs = study.plan.kept_epochs
    missing = {
        method.name: [epoch for epoch in epochs if force or not _is_finished(study, method, settings, seed_id, epoch)]
        for method, settings in methods
    }
    wanted = sorted({epoch for of_method in missing.values() for epoch in of_method})
    if not wanted:
        return 0
    members = load_members(study, seed_id, wanted)
    train, test = (members[0].study.inputs(split) for split in (study.train, study.test))
    for method, settings in methods:
        if not missing[method.name]:
            continue
        to_score = [member for member in members if member.epoch in missing[method.name]]
        for member, found in zip(to_score, method.score(to_score, train, test, settings), strict=True):
            described = _describe(study, method, settings, seed_id, member.epoch) | {"report": found.report}
            path = study.results.score_file(method.name, seed_id, member.epoch)
            values = found.scores.cpu().numpy()
            save_scores(path, values, study.train.indices.numpy(), study.test.indices.numpy(), described)
    return sum(len(of_method) for of_method in missing.values())


def _describe(study: Study, method: Method, settings: dict, seed_id: int, epoch: int) -> dict:
    return {
        "method": method.name,
        "citation": method.citation,
        "sign": method.sign,
        "settings": settings,
        "experiment": study.experiment.name,
        "seed_id": seed_id,
        "epoch": epoch,
        "data": study.hashes,
    }


def _is_finished(study: Study, method: Method, settings: dict, seed_id: int, epoch: int) -> bool:
    path = study.results.score_file(method.name, seed_id, epoch)
    if not path.exists():
        return False
    *_, metadata = load_score_file(path)
    for key, value in _describe(study, method, settings, seed_id, epoch).items():
        if key not in ("citation", "sign") and metadata.get(key) != value:
            raise UserError(
                f"{path} does not belong here: its {key} is {metadata.get(key)}, not {value}; "
                f"delete it, or compute it again with --force"
            )
    return True
