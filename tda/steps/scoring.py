"""Score an experiment's members by registered methods, keep one file a member, and skip what is finished."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from tda.data.splits import Split, load_split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.experiments.manifest import step
from tda.experiments.seeds import chosen_seed_ids
from tda.methods import Method, method_named
from tda.models.families import family_named
from tda.scores.score_files import load_score_file, save_scores
from tda.system.devices import pick_device, prepare_process
from tda.system.errors import UserError
from tda.training.ensembles import load_members


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

    def epochs(self) -> list[int]:
        """The epochs whose checkpoints are kept; raises UserError for an unknown model or task."""
        return family_named(self.model).plan(task_named(self.task)).kept_epochs


def score_experiment(settings: ScoringSettings, method_settings: dict[str, dict]) -> str:
    """Score by each named method, with settings that differ from its defaults; returns the closing line.

    Raises UserError for unknown names, missing or foreign inputs, and score files of other settings (unless forced).
    """
    prepare_process()
    experiment, device = settings.experiment, pick_device(settings.device)
    methods = {name: method_named(name) for name in method_settings}
    for name, changed in method_settings.items():
        if unknown := sorted(changed.keys() - methods[name].settings.keys()):
            raise UserError(f"method {name} has no setting {unknown[0]}; it has {', '.join(methods[name].settings) or 'none'}")
    chosen = {name: {**methods[name].settings, **changed} for name, changed in method_settings.items()}
    epochs = settings.epochs()
    train = load_split(settings.task, "train", settings.num_per_class)
    test = load_split(settings.task, "test")
    seed_ids = chosen_seed_ids(settings.seed_id)
    hashes = {"train": train.fingerprint(), "test": test.fingerprint()}
    title = "scoring " + " and ".join(methods)
    written = 0
    step_name = title if settings.seed_id is None else f"{title}, seed {settings.seed_id}"
    with step(experiment, step_name, vars(settings) | {"methods": chosen}, hashes, device) as record:
        for seed_id in tqdm(seed_ids, desc=title, delay=2):
            job = _SeedJob(experiment, seed_id, epochs, train, test, device, settings.force)
            written += job.score([(methods[name], chosen[name]) for name in methods])
        record.keep_earlier = written == 0
    kept = len(seed_ids) * len(epochs) * len(methods) - written
    folders = ", ".join(str(experiment.results.score_folder(name)) for name in methods)
    return f"wrote {written} score files, kept {kept} that were finished, in {folders}"


@dataclass(frozen=True)
class _SeedJob:
    experiment: Experiment
    seed_id: int
    epochs: Sequence[int]
    train: Split
    test: Split
    device: torch.device
    force: bool

    def score(self, methods: list[tuple[Method, dict]]) -> int:
        """Write what is missing; returns the number of files written."""
        missing = {
            method.name: [epoch for epoch in self.epochs if self.force or not self._is_finished(method, epoch, settings)]
            for method, settings in methods
        }
        wanted = sorted({epoch for epochs in missing.values() for epoch in epochs})
        if not wanted:
            return 0
        members = load_members(self.experiment, self.seed_id, wanted, self.train, self.device)
        train, test = members[0].inputs(self.train), members[0].inputs(self.test)
        for method, settings in methods:
            if not missing[method.name]:
                continue
            chosen = [member for member in members if member.epoch in missing[method.name]]
            for member, found in zip(chosen, method.score(chosen, train, test, settings), strict=True):
                described = self._describe(method, member.epoch, settings) | {"report": found.report}
                path = self.experiment.results.score_file(method.name, self.seed_id, member.epoch)
                values = found.scores.cpu().numpy()
                save_scores(path, values, self.train.indices.numpy(), self.test.indices.numpy(), described)
        return sum(len(epochs) for epochs in missing.values())

    def _describe(self, method: Method, epoch: int, settings: dict) -> dict:
        data = {"train": self.train.fingerprint(), "test": self.test.fingerprint()}
        return {
            "method": method.name,
            "citation": method.citation,
            "sign": method.sign,
            "settings": settings,
            "experiment": self.experiment.name,
            "seed_id": self.seed_id,
            "epoch": epoch,
            "data": data,
        }

    def _is_finished(self, method: Method, epoch: int, settings: dict) -> bool:
        path = self.experiment.results.score_file(method.name, self.seed_id, epoch)
        if not path.exists():
            return False
        *_, metadata = load_score_file(path)
        for key, value in self._describe(method, epoch, settings).items():
            if key not in ("citation", "sign") and metadata.get(key) != value:
                raise UserError(
                    f"{path} does not belong here: its {key} is {metadata.get(key)}, not {value}; "
                    f"delete it, or compute it again with --force"
                )
        return True
