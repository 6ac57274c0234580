"""Scores of the checkpoints that are there now, and of all of them: what is of others, or of a part, is refused.

After a training with --force, or one that was interrupted, files of models that no longer exist may lie beside new ones. A
score file says of which checkpoint it is, by the hash of the checkpoint's content; whatever analyses scores reads them here.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tda.experiments.folders import Experiment
from tda.scores.score_files import Scores, check_data, load_scores, read_score_info, score_paths, scored_methods
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.tensor_heads import read_info

Member = tuple[int, int]
"""A seed id and an epoch."""


@dataclass(frozen=True)
class Checkpoints:
    """What the checkpoints of an experiment say of themselves, by member."""

    experiment: Experiment
    infos: dict[Member, dict]

    @property
    def seed_ids(self) -> list[int]:
        """Seeds that have a checkpoint."""
        return sorted({seed_id for seed_id, _ in self.infos})

    def seeds(self, num_seeds: int | None = None) -> list[int]:
        """The random seeds that the members were trained from, of all ids or of the first `num_seeds`."""
        found = {seed_id: info["seed"] for (seed_id, _), info in sorted(self.infos.items())}
        return [seed for seed_id, seed in found.items() if num_seeds is None or seed_id < num_seeds]

    @property
    def hashes(self) -> list[tuple[Member, str]]:
        """Every member, in order, with the SHA-256 of its checkpoint's content."""
        return sorted((member, info["sha256"]) for member, info in self.infos.items())

    def hash_of(self, member: Member) -> str | None:
        """SHA-256 of a checkpoint's content; None where there is no such checkpoint."""
        return self.infos[member]["sha256"] if member in self.infos else None

    def require_one_training(self, members: Iterable[Member]) -> None:
        """Raise UserError unless these were trained by one plan, from one base, on the same examples."""
        first: tuple[Member, str] | None = None
        for member in sorted(members):
            made_from = json.dumps([self.infos[member].get(key) for key in ("data", "plan", "origin")], sort_keys=True)
            first = first or (member, made_from)
            if made_from != first[1]:
                raise UserError(
                    f"seeds {first[0][0]} and {member[0]} of {self.experiment.name} were trained in different ways, as after a "
                    f"training with --force that was interrupted; run the training script again with --force"
                )


def read_checkpoints(experiment: Experiment) -> Checkpoints:
    """The heads of all checkpoints of an experiment; raises UserError if one is damaged."""
    infos = {}
    for path in sorted(experiment.seed_folder(0).parent.glob("*/ckpt_epoch_*.safetensors")):
        seed_id, epoch = path.parent.name, path.stem.removeprefix("ckpt_epoch_")
        # A copy that somebody put beside a checkpoint is none.
        if seed_id.isdecimal() and epoch.isdecimal():
            infos[int(seed_id), int(epoch)] = read_info(path)
    return Checkpoints(experiment, infos)


def fresh_scores(
    checkpoints: Checkpoints,
    method: str,
    hashes: dict[str, str] | None = None,
    num_seeds: int | None = None,
    columns: slice | None = None,
) -> Scores:
    """All scores of a method, or those of the first `num_seeds` seeds, or of some columns, the test examples.

    hashes: fingerprints of the splits that they must be of. Raises UserError as load_scores does, and if a file is of another
    checkpoint than the one that is there now, if a trained seed lacks scores, if fewer seeds are trained, or if seeds were
    trained in different ways.
    """
    experiment, trained = checkpoints.experiment, checkpoints.seed_ids
    if num_seeds is not None and not (1 <= num_seeds <= len(trained) and trained[num_seeds - 1] == num_seeds - 1):
        known = ", ".join(map(str, trained)) or "none"
        raise UserError(
            f"scores of the first {num_seeds} seeds of {experiment.name} are asked for, of which these are trained: {known}; "
            f"ask for fewer, one at least, or train and score the others first"
        )
    wanted = trained[:num_seeds]
    scores = load_scores(experiment.results, method, None if num_seeds is None else wanted, columns)
    command = f"run_tda.py --experiment {experiment.name} --methods {method}"
    again = f"run its scoring script again, which computes it anew, or {command}"
    for member, found in sorted(scores.checkpoints.items()):
        if found is None or found != checkpoints.hash_of(member):
            path = experiment.results.score_file(method, *member)
            raise UserError(f"{path} is of a checkpoint that is no longer there; {again}")
    missing = sorted(set(wanted) - set(scores.seed_ids))
    if missing:
        raise UserError(
            f"method {method} has no scores of seed {missing[0]} of {experiment.name}, which is trained; {again}, or take only "
            f"the first seeds by --num_seeds"
        )
    checkpoints.require_one_training(scores.checkpoints)
    if hashes is not None:
        check_data(scores, hashes)
    return scores


def score_identities(experiment: Experiment) -> dict[str, str]:
    """Of every method that has score files, a hash of what they hold."""
    return {method: score_identity(experiment, method) for method in scored_methods(experiment.results)}


def score_identity(experiment: Experiment, method: str, scores: Scores | None = None) -> str:
    """A hash of what a method's score files hold and of which checkpoints they are.

    It is read from their heads alone, but for those of which `scores` tell it.
    """
    parts = []
    for member, path in sorted(score_paths(experiment.results, method).items()):
        if scores is not None and member in scores.checksums:
            checksum, checkpoint = scores.checksums[member], scores.checkpoints[member]
        else:
            info = read_score_info(path)
            checksum, checkpoint = info["sha256"], info.get("checkpoint")
        parts.append(f"{member} {checksum} {checkpoint}".encode())
    return sha256(*parts)


def are_outdated(checkpoints: Checkpoints, method: str) -> bool:
    """Whether a score file of a method is of a checkpoint in whose place there is another."""
    paths = score_paths(checkpoints.experiment.results, method)
    known = {member: path for member, path in paths.items() if member in checkpoints.infos}
    return any(read_score_info(path).get("checkpoint") != checkpoints.hash_of(member) for member, path in known.items())


def remove_outdated(folder: Path, keep: Iterable[int], pattern: str) -> None:
    """Delete a seed's files of epochs that no longer count; pattern: their names, with * for the epoch."""
    beginning, _, end = pattern.partition("*")
    kept = {f"{beginning}{epoch}{end}" for epoch in keep}
    for path in folder.glob(pattern):
        if path.name not in kept:
            path.unlink()
