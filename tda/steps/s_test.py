"""Step 3, optional: keep s_test = (curvature + damping)^-1 g_test of members, and score new examples by it."""

import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tda.curvature.dual_gauss_newton import dual_gauss_newton
from tda.curvature.inverses import Inverse
from tda.curvature.s_test_files import kept_info, score_new_examples, write_s_test
from tda.data.splits import Split, split_of_indices
from tda.experiments.manifest import chosen_experiment
from tda.methods.lissa import lissa_operators
from tda.methods.registry import load_method
from tda.scores.score_files import save_scores
from tda.settings import STest
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.system.files import make_folder
from tda.training.members import Member, load_members
from tda.training.study import open_study


def main(settings: STest) -> str:
    """Write the missing s_test files, then score new examples; returns the closing line.

    Raises UserError for unusable settings or files.
    """
    prepare_process()
    if settings.method not in ("if", "if_lissa"):
        raise UserError(f"s_test is kept for the methods if and if_lissa, not for {settings.method}")
    study = open_study(chosen_experiment(settings), settings.device)
    new = split_of_indices(study.task, "train", Path(settings.new_indices)) if settings.new_indices else None
    seed_ids = study.seed_ids(settings.seed_id, settings.num_seeds)
    epochs, written = study.last_epochs(settings.num_checkpoints), 0
    with study.step(f"s_test of {settings.method}", vars(settings), seed_ids=seed_ids) as record:
        for seed_id in tqdm(seed_ids, desc="s_test", delay=2):
            members = load_members(study, seed_id, epochs)
            study = members[0].study
            for member in members:
                written += _write_unless_finished(settings, member)
                if new is not None:
                    _score(settings, member, new)
        record.keep_earlier = written == 0
    folder = study.results.s_test_file(settings.method, seed_ids[0], 0).parent.parent
    scored = "" if new is None else f", scored {len(new)} new examples for each"
    total = len(seed_ids) * settings.num_checkpoints
    return f"wrote {written} s_test files, kept {total - written} that were finished{scored}, in {folder}"


def _damping(settings: STest) -> float:
    return load_method(settings.method).settings["damping"] if settings.damping is None else settings.damping


def _described(settings: STest, member: Member) -> dict:
    return {
        "experiment": member.study.experiment.name,
        "seed_id": member.seed_id,
        "epoch": member.epoch,
        "data": member.study.hashes,
        "method": settings.method,
        "damping": _damping(settings),
        "checkpoint": member.info["sha256"],
    }


def _write_unless_finished(settings: STest, member: Member) -> int:
    study, info = member.study, _described(settings, member)
    path = study.results.s_test_file(settings.method, member.seed_id, member.epoch)
    if path.exists() and not settings.force:
        found = kept_info(path)
        differing = {key for key in info if found.get(key) != info[key]}
        if not differing:
            return 0
        # One of an earlier training is computed anew; one of other settings may be wanted.
        if "checkpoint" not in differing:
            raise UserError(f"{path} was computed from other data or settings; delete it, or compute it again with --force")
    inverse = _inverse(settings, member, study.inputs(study.train))
    _check_space(path, member)
    write_s_test(path, member.model, member.objective, study.inputs(study.test), inverse, info)
    return 1


def _check_space(path: Path, member: Member) -> None:
    make_folder(path.parent)
    needed = 4 * len(member.study.test) * sum(tensor.numel() for tensor in member.state.parameters.values())
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UserError(
            f"{path} needs {needed >> 20} MiB, but {free >> 20} MiB are free; make room or choose fewer checkpoints"
        )


def _inverse(settings: STest, member: Member, train: Split) -> Inverse:
    if settings.method == "if":
        return dual_gauss_newton(member.model, member.objective, train, _damping(settings)).inverse
    defaults = load_method("if_lissa").settings
    return lissa_operators(member, train, _damping(settings), defaults["scale"], defaults["batch_size"])[0]


def _score(settings: STest, member: Member, new: Split) -> None:
    study = member.study
    kept = study.results.s_test_file(settings.method, member.seed_id, member.epoch)
    scores = score_new_examples(kept, member.model, member.objective, study.inputs(new))
    described = _described(settings, member)
    described |= {"settings": {"damping": described.pop("damping")}, "data": study.hashes | {"new": new.fingerprint}}
    path = study.results.new_example_file(settings.method, member.seed_id, member.epoch)
    save_scores(path, np.asarray(scores), new.indices.numpy(), study.test.indices.numpy(), described)
