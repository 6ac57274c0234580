"""The s_test step of every model family: settings, which members, what is finished, closing line."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tda.curvature.inverses import Inverse, dual_inverse
from tda.curvature.s_test_files import read_info, score_new_examples, write_s_test
from tda.data.splits import Split, load_split, split_of_indices
from tda.data.tasks import task_named
from tda.experiments.manifest import step
from tda.experiments.seeds import chosen_seed_ids
from tda.methods import method_named
from tda.methods.lissa import lissa_operators
from tda.scores.score_files import save_scores
from tda.steps.scoring import ScoringSettings
from tda.system.devices import pick_device, prepare_process
from tda.system.errors import UserError
from tda.system.files import make_folder
from tda.training.ensembles import load_members
from tda.training.members import Member


@dataclass
class STestSettings(ScoringSettings):
    """The arguments of a script that keeps s_test."""

    method: str = "if"
    """Influence function whose s_test is kept: if (Gauss-Newton matrix) or if_lissa."""
    damping: float | None = None
    """Number added to the diagonal of the curvature; without it the method's own default."""

    def chosen_damping(self) -> float:
        """The damping that is used."""
        return method_named(self.method).settings["damping"] if self.damping is None else self.damping

    num_checkpoints: int = 1
    """Last checkpoints of each seed to keep s_test for; one costs as many bytes as 4 x test examples x parameters."""
    new_indices: str = ""
    """Text file of indices into the task's training part, one a line: examples to score; without it none are."""


def keep_s_test(settings: STestSettings) -> str:
    """Write the missing s_test files, then score new examples; returns the closing line.

    Raises UserError for unusable settings or files.
    """
    prepare_process()
    if settings.method not in ("if", "if_lissa"):
        raise UserError(f"s_test is kept for the methods if and if_lissa, not for {settings.method}")
    experiment, device = settings.experiment, pick_device(settings.device)
    train = load_split(settings.task, "train", settings.num_per_class)
    test = load_split(settings.task, "test")
    new = _new_examples(settings)
    seed_ids = chosen_seed_ids(settings.seed_id)
    hashes = {"train": train.fingerprint(), "test": test.fingerprint()}
    written = 0
    with step(experiment, f"s_test of {settings.method}", vars(settings), hashes, device) as record:
        for seed_id in tqdm(seed_ids, desc="s_test", delay=2):
            for member in _members(settings, seed_id, train, device):
                written += _write_unless_finished(settings, member, train, test, hashes)
                if new is not None:
                    _score(settings, member, new, test, hashes)
        record.keep_earlier = written == 0
    folder = experiment.results.s_test_file(settings.method, seed_ids[0], 0).parent.parent
    scored = "" if new is None else f", scored {len(new)} new examples for each"
    total = len(seed_ids) * settings.num_checkpoints
    return f"wrote {written} s_test files, kept {total - written} that were finished{scored}, in {folder}"


def _members(settings: STestSettings, seed_id: int, train: Split, device: torch.device) -> list[Member]:
    epochs = settings.epochs()
    if not 1 <= settings.num_checkpoints <= len(epochs):
        raise UserError(
            f"--num_checkpoints {settings.num_checkpoints} is out of range: {len(epochs)} checkpoints a seed are kept"
        )
    return load_members(settings.experiment, seed_id, epochs[-settings.num_checkpoints :], train, device)


def _write_unless_finished(settings: STestSettings, member: Member, train: Split, test: Split, hashes: dict) -> int:
    path = settings.experiment.results.s_test_file(settings.method, member.seed_id, member.epoch)
    info = {
        "experiment": member.experiment.name,
        "seed_id": member.seed_id,
        "epoch": member.epoch,
        "data": hashes,
        "method": settings.method,
        "damping": settings.chosen_damping(),
    }
    if path.exists() and not settings.force:
        if read_info(path) != info:
            raise UserError(f"{path} was computed from other data or settings; delete it, or compute it again with --force")
        return 0
    inverse = _inverse(settings, member, member.inputs(train))
    _check_space(path, member, test)
    write_s_test(path, member, member.inputs(test), inverse, info)
    return 1


def _check_space(path: Path, member: Member, test: Split) -> None:
    make_folder(path.parent)
    needed = 4 * len(test) * sum(tensor.numel() for tensor in member.state.parameters.values())
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UserError(
            f"{path} needs {needed >> 20} MiB, but {free >> 20} MiB are free; make room or choose fewer checkpoints"
        )


def _inverse(settings: STestSettings, member: Member, train: Split) -> Inverse:
    if settings.method == "if":
        return dual_inverse(member, train, settings.chosen_damping())
    defaults = method_named("if_lissa").settings
    return lissa_operators(member, train, settings.chosen_damping(), defaults["scale"], defaults["batch_size"])[0]


def _new_examples(settings: STestSettings) -> Split | None:
    if not settings.new_indices:
        return None
    return split_of_indices(task_named(settings.task), "train", Path(settings.new_indices))


def _score(settings: STestSettings, member: Member, new: Split, test: Split, hashes: dict) -> None:
    results = settings.experiment.results
    kept = results.s_test_file(settings.method, member.seed_id, member.epoch)
    scores = score_new_examples(kept, member, member.inputs(new))
    described = {
        "method": settings.method,
        "settings": {"damping": settings.chosen_damping()},
        "experiment": member.experiment.name,
        "seed_id": member.seed_id,
        "epoch": member.epoch,
        "data": hashes | {"new": new.fingerprint()},
    }
    path = results.new_example_file(settings.method, member.seed_id, member.epoch)
    save_scores(path, np.asarray(scores), new.indices.numpy(), test.indices.numpy(), described)
