"""Kept s_test vectors give the scores of their solver, for training examples old and new."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import EXPERIMENT, Ensemble
from tiny_model import explicit_gauss_newton, naive_gradients, score

from tda.curvature import s_test_files
from tda.curvature.dual_gauss_newton import dual_gauss_newton
from tda.curvature.s_test_files import score_new_examples, write_s_test
from tda.methods.lissa import lissa_operators
from tda.methods.registry import load_method
from tda.system.errors import UserError
from tda.system.tensor_heads import read_info

EVERY_FAMILY = True
INFO = {"experiment": EXPERIMENT.name, "seed_id": 0, "epoch": 15}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "s_test.safetensors"


def test_scores_of_new_examples_are_the_closed_form(tiny, path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of examples that no curvature saw, however many vectors are read at once."""
    train, test, members = tiny
    model, objective, old, new = members[0].model, members[0].objective, train[:6], train[6:]
    residual = write_s_test(path, model, objective, test, dual_gauss_newton(model, objective, old, 0.05).inverse, INFO)
    assert 0 < residual < 1e-8
    curvature = explicit_gauss_newton(model, old)
    inverse = torch.linalg.inv(curvature + 0.05 * torch.eye(len(curvature), dtype=curvature.dtype))
    expected = naive_gradients(model, new) @ inverse @ naive_gradients(model, test).T
    for at_once in (64, 5):
        monkeypatch.setattr(s_test_files, "_ROWS_AT_ONCE", at_once)
        found = score_new_examples(path, model, objective, new)
        assert found.dtype == torch.float32 and found.shape == (3, 12)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("method", ["if", "if_lissa"])
@pytest.mark.families("cnn")
def test_scores_of_the_training_examples_are_those_of_the_method(ensemble: Ensemble, path: Path, method: str):
    (member,) = ensemble.members(15)
    if method == "if":
        damping = load_method("if").settings["damping"]
        inverse = dual_gauss_newton(member.model, member.objective, ensemble.train, damping).inverse
    else:
        inverse = lissa_operators(member, ensemble.train, 5e-3, 1e4, 8)[0]
    residual = write_s_test(path, member.model, member.objective, ensemble.test, inverse, INFO)
    assert 0 <= residual < 1e-2
    found = score_new_examples(path, member.model, member.objective, ensemble.train)
    (expected,) = score(method, [member], ensemble.train, ensemble.test)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-3 * float(expected.abs().max()))


def test_file_is_ordinary_safetensors(tiny, path: Path):
    _, test, members = tiny
    model, objective = members[0].model, members[0].objective
    assert write_s_test(path, model, objective, test, lambda vectors: (3 * vectors, 0.25), INFO) == 0.25
    (name,) = tensors = safetensors.torch.load_file(path)
    info = read_info(path)
    assert name == "s_test" and len(info.pop("sha256")) == 64 and info == INFO
    torch.testing.assert_close(tensors[name], 3 * naive_gradients(model, test).float(), rtol=1e-6, atol=1e-9)


@pytest.mark.families("cnn")
def test_value_that_is_not_finite_is_refused_and_nothing_is_written(tiny, path: Path, monkeypatch: pytest.MonkeyPatch):
    _, test, members = tiny
    monkeypatch.setattr("tda.curvature.inverses._BLOCK", 5)
    blocks = []

    def spoilt(vectors: torch.Tensor) -> tuple[torch.Tensor, float]:
        blocks.append(len(vectors))
        return (vectors / 0 if len(blocks) == 2 else vectors), 0.0

    with pytest.raises(UserError, match="seed 0, epoch 15 is not finite .* positions 5 to 9; .*nothing was written"):
        write_s_test(path, members[0].model, members[0].objective, test, spoilt, INFO)
    assert blocks == [5, 5] and not list(path.parent.iterdir())


@pytest.mark.families("cnn")
def test_changed_numbers_are_noticed(tiny, path: Path):
    train, test, members = tiny
    model, objective = members[0].model, members[0].objective
    write_s_test(path, model, objective, test, lambda vectors: (vectors, 0.0), INFO)
    with open(path, "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(UserError, match="s_test.safetensors is damaged: its tensors do not match its checksum; delete it"):
        score_new_examples(path, model, objective, train)
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(UserError, match="s_test.safetensors is not a whole tensor file of this project; delete it"):
        score_new_examples(path, model, objective, train)
