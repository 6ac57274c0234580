"""Similarities of images and of texts against the models' own embeddings, and methods of every kind on pairs."""

from pathlib import Path

import pytest
import tiny_pairs
import torch
from conftest import EXPERIMENT, run_here

from tda.methods.registry import load_method
from tda.system.errors import UserError
from tda.training.members import Member, load_members
from tda.training.study import Study, open_study


@pytest.fixture
def study(pair_root: Path, tmp_path: Path) -> Study:
    folder = tiny_pairs.clip_folder(tmp_path / "clip")
    run_here("run_clip_training.py", **tiny_pairs.CHOSEN, base=str(folder), num_seeds=1)
    return open_study(tiny_pairs.EXPERIMENT, "cpu")


def scored(study: Study, name: str, dtype: torch.dtype = torch.float32, **settings) -> tuple[torch.Tensor, Member]:
    members = load_members(study, 0, [8])
    members[0].model.to(dtype)
    train, test = (members[0].study.inputs(split).cast(dtype) for split in (study.train, study.test))
    method = load_method(name)
    method.check(study, [0], method.settings | settings)
    (found,) = method.score(members, train, test, method.settings | settings)
    return found.scores, members[0]


def test_cosines_of_either_side_and_of_both(study: Study):
    images, member = scored(study, "image_similarity")
    texts, both = scored(study, "caption_similarity")[0], scored(study, "repsim")[0]
    inputs = [member.study.inputs(split).inputs for split in (study.train, study.test)]
    with torch.no_grad():
        left, right = (member.model.embeddings(each) for each in inputs)
    for row, column in ((0, 0), (23, 11), (7, 3)):
        assert images[row, column] == pytest.approx(float(left[0][row] @ right[0][column]), abs=1e-6)
        assert texts[row, column] == pytest.approx(float(left[1][row] @ right[1][column]), abs=1e-6)
    torch.testing.assert_close(both, (images + texts) / 2, rtol=0, atol=1e-6)


def test_trak_is_the_closed_form_of_autograd(study: Study):
    found, member = scored(study, "trak", torch.float64, ridge=0.5)
    model = member.model
    splits = [member.study.inputs(split).cast(torch.float64) for split in (study.train, study.test)]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def rows(split) -> torch.Tensor:
        each = []
        for position in range(len(split)):
            one = split[[position]]
            value = member.objective.margin(model(**one.inputs), one.labels).sum()
            each.append(torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters)]))
        return torch.stack(each)

    left, right = map(rows, splits)
    kernel = left @ left.T + 0.5 * torch.eye(24, dtype=torch.float64)
    with torch.no_grad():
        factor = member.objective.surprise(model(**splits[0].inputs), splits[0].labels)
    torch.testing.assert_close(found.double(), factor[:, None] * torch.linalg.solve(kernel, left @ right.T))


@pytest.mark.parametrize("name", ["trak_projected", "grad_dot", "grad_cos", "ekfac", "if", "ats", "loo", "tracin"])
def test_other_methods_score_pairs(study: Study, name: str):
    scores, _ = scored(study, name, **({"matrix": "gauss_newton"} if name == "if" else {}))
    assert scores.shape == (24, 12) and torch.isfinite(scores).all() and scores.std() > 0


def test_what_does_not_suit_pairs_is_refused(pair_root: Path):
    with pytest.raises(UserError, match="compares the examples of its batch"):
        load_method("unrolled").check(open_study(tiny_pairs.EXPERIMENT, "cpu"), [0], load_method("unrolled").settings)
    with pytest.raises(UserError, match="has no images with texts"):
        load_method("image_similarity").check(open_study(EXPERIMENT, "cpu"), [0], {})
