"""Step 3: score an experiment's members by registered methods, keep one file a member, and skip what is finished."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from tqdm import tqdm

from tda.experiments.manifest import Part, chosen_experiment
from tda.gradients.single_precision import LOW_PRECISION
from tda.methods.catalogue import ALL, chosen_entries
from tda.methods.registry import Attribution, Method, load_method
from tda.scores.ensemble_scores import write_ensemble_scores
from tda.scores.fresh_scores import Checkpoints, read_checkpoints, remove_outdated
from tda.scores.score_files import load_score_file, save_scores, score_paths
from tda.settings import Scoring
from tda.settings.of_experiment import budget_in_bytes
from tda.system.devices import prepare_process
from tda.system.errors import UserError, in_one_line
from tda.training.members import load_members
from tda.training.study import Study, open_study


@dataclass
class Job:
    """A method with its settings; the epochs that it has yet to score, by seed id; the seconds that it took so far.

    goes_on: whether some of its files were finished earlier, in a run whose seconds count too.
    """

    method: Method
    settings: dict
    missing: dict[int, list[int]]
    seconds: float = 0.0
    goes_on: bool = False

    @property
    def num_missing(self) -> int:
        """How many score files are yet to be written."""
        return sum(map(len, self.missing.values()))


def main(settings: Scoring) -> str:
    """Score by each chosen method, with settings that differ from its defaults; returns the closing line.

    Raises UserError for unknown names, missing or foreign inputs, and score files of other settings (unless forced).
    """
    prepare_process()
    methods = _methods(settings)
    budget = budget_in_bytes(settings.memory_budget)
    study = replace(open_study(chosen_experiment(settings), settings.device, may_learn_more=True), memory_budget=budget)
    seed_ids = study.seed_ids(settings.seed_id, settings.num_seeds)
    checkpoints = read_checkpoints(study.experiment)
    jobs = [Job(method, own, _missing(study, checkpoints, method, own, seed_ids, settings.force)) for method, own in methods]
    for job in jobs:
        job.goes_on = 0 < job.num_missing < len(seed_ids) * len(study.plan.kept_epochs)
    jobs, left_out = _feasible(study, seed_ids, jobs, ALL in settings.methods)
    written = sum(job.num_missing for job in jobs)
    with study.step("scoring", vars(settings), seed_ids=seed_ids) as record:
        with tqdm(total=len(seed_ids) * len(jobs), desc="scoring", delay=2) as bar:
            for seed_id in seed_ids:
                study = score_seed(study, seed_id, jobs, bar)
        lines = _ensembles(study, jobs)
        record.parts = [_record(job) for job in jobs]
    kept = len(seed_ids) * len(study.plan.kept_epochs) * len(jobs) - written
    done = f"wrote {written} score files, kept {kept} that were finished, in {study.results.score_folder('')}"
    return "; ".join([f"{done} of {', '.join(job.method.name for job in jobs)}", *lines, *left_out])


def score_missing(study: Study, names: Sequence[str], num_seeds: int, device: str) -> None:
    """Score so many seeds by those of the named methods that have no scores at all, with their usual settings."""
    if missing := [name for name in names if not score_paths(study.results, name)]:
        shared = {key: getattr(study.experiment, key) for key in ("model", "task", "num_per_class", "variant")}
        main(Scoring(**shared, methods={name: {} for name in missing}, num_seeds=num_seeds, device=device))


def _methods(settings: Scoring) -> list[tuple[Method, dict]]:
    """The chosen methods, each with all of its settings; raises UserError for unknown methods and settings."""
    methods = map(load_method, chosen_entries(tuple(settings.methods)))
    return [(method, method.settings_with(settings.methods.get(method.name, {}))) for method in methods]


def _feasible(study: Study, seed_ids: Sequence[int], jobs: list[Job], by_all: bool) -> tuple[list[Job], list[str]]:
    """The jobs that can be done, and sentences about the others.

    Raises UserError for one that lacks what it needs, unless the word `all` brought it.
    """
    feasible, left_out = [], {}
    for job in jobs:
        try:
            if job.num_missing:
                job.method.check(study, seed_ids, job.settings)
            feasible.append(job)
        except UserError as error:
            if not (by_all and job.method.in_all):
                raise
            reason = f"for want of {job.method.needs}" if job.method.needs else f"since {error}"
            left_out.setdefault(reason, []).append(job.method.name)
    return feasible, [f"left out {' and '.join(names)}, {reason}" for reason, names in left_out.items()]


def score_seed(study: Study, seed_id: int, jobs: Sequence[Job], bar: tqdm) -> Study:
    """Write the score files of one seed that are missing, and count each method's time.

    Files of epochs that the plan does not score are of an earlier training: they are deleted once all others are there.
    Returns the study with the seed's choices of fine-tuning, which the next seeds must have too.
    """
    wanted = sorted({epoch for job in jobs for epoch in job.missing[seed_id]})
    members = load_members(study, seed_id, wanted) if wanted else []
    train, test = (members[0].study.inputs(split) for split in (study.learned, study.test)) if wanted else (None, None)
    for job in jobs:
        # Refreshed by the next update: the bar is not to be seen before its delay is over.
        bar.set_postfix_str(job.method.name, refresh=False)
        to_score = [member for member in members if member.epoch in job.missing[seed_id]]
        if to_score:
            start = time.perf_counter()
            for member, found in zip(to_score, job.method.score(to_score, train, test, job.settings), strict=True):
                if not isinstance(found, Attribution):
                    raise UserError(
                        f"method {job.method.name} gave a {type(found).__name__} instead of an Attribution; wrap its scores: "
                        "Attribution(scores)"
                    )
                found = found if study.whole is None else found.of(study.scored)
                described = _describe(study, job.method, job.settings, seed_id, member.epoch)
                described |= {"checkpoint": member.info["sha256"], "report": _checked_report(job.method, found.report)}
                path = study.results.score_file(job.method.name, seed_id, member.epoch)
                values = _checked_scores(job.method, found.scores, (len(study.train), len(study.test)))
                save_scores(path, values, study.train.indices.numpy(), study.test.indices.numpy(), described)
            job.seconds += time.perf_counter() - start
        folder = study.results.score_file(job.method.name, seed_id, 0).parent
        remove_outdated(folder, study.plan.kept_epochs, "attribution_epoch_*.parquet")
        bar.update()
    return members[0].study if members else study


def _checked_scores(method: Method, scores: object, shape: tuple[int, int]) -> np.ndarray:
    """What a method gave, as numbers; raises UserError where that is no score for each training and test example."""
    if not isinstance(scores, Tensor) or scores.shape != shape:
        given = f"a tensor {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise UserError(
            f"method {method.name} gave {given} for scores; it must give a tensor {shape}, training by test examples"
        )
    scores = scores.detach().cpu()
    return (scores.float() if scores.dtype in LOW_PRECISION else scores).numpy()


def _checked_report(method: Method, report: object) -> object:
    try:
        json.dumps(report)
    except (TypeError, ValueError) as error:
        raise UserError(f"the report of method {method.name} cannot be written as JSON: {in_one_line(error)}") from error
    return report


def _ensembles(study: Study, jobs: Sequence[Job]) -> list[str]:
    """Write the ensemble's scores of methods for which they are no mean of the members', where all seeds are scored."""
    lines = []
    for job in jobs:
        pairs = [(seed_id, epoch) for seed_id in study.seed_ids() for epoch in study.plan.kept_epochs]
        paths = [study.results.score_file(job.method.name, *pair) for pair in pairs]
        if all(path.exists() for path in paths) and "train_factor" in load_score_file(paths[-1])[-1].get("report", {}):
            lines.append(write_ensemble_scores(study.experiment, job.method.name))
    return lines


def _record(job: Job) -> Part:
    arguments = {"methods": {job.method.name: job.settings}}
    return Part(f"scoring {job.method.name}", arguments, job.seconds, job.num_missing == 0, job.goes_on)


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


def _missing(
    study: Study, checkpoints: Checkpoints, method: Method, settings: dict, seed_ids: Sequence[int], force: bool
) -> dict[int, list[int]]:
    """The epochs of each seed that are to be scored; raises UserError for files that belong elsewhere."""
    return {
        seed_id: [
            epoch
            for epoch in study.plan.kept_epochs
            if force or not _is_finished(study, checkpoints, method, settings, seed_id, epoch)
        ]
        for seed_id in seed_ids
    }


def _is_finished(study: Study, checkpoints: Checkpoints, method: Method, settings: dict, seed_id: int, epoch: int) -> bool:
    """Whether there is a score file of the checkpoint that is there now; one of an earlier training is computed anew."""
    path = study.results.score_file(method.name, seed_id, epoch)
    if not path.exists():
        return False
    *_, metadata = load_score_file(path)
    # A file that was written before a setting existed was computed with what is its default now.
    metadata["settings"] = method.settings | metadata["settings"]
    if metadata.get("checkpoint") != checkpoints.hash_of((seed_id, epoch)):
        return False
    for key, value in _describe(study, method, settings, seed_id, epoch).items():
        if key not in ("citation", "sign") and metadata.get(key) != value:
            raise UserError(
                f"{path} does not belong here: {_difference(key, metadata.get(key), value)}; "
                f"delete it, or compute it again with --force"
            )
    return True


def _difference(key: str, found: object, wanted: object) -> str:
    """What two descriptions of one file disagree about."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        name = next(name for name in wanted | found if found.get(name) != wanted.get(name))
        return f"of its {key}, {name} is {found.get(name)}, not {wanted.get(name)}"
    return f"its {key} is {found}, not {wanted}"
