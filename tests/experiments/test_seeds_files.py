"""The seeds' file in the forms that people have it in, the published study's above all, and what is never loaded."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import contents

from tda.experiments.folders import seeds_file
from tda.experiments.seeds import load_seeds
from tda.system.errors import UserError

SEEDS = [int(seed) for seed in np.random.default_rng(0).integers(0, 2**31, 10)]
ZIPPED = [True, False]
"""torch.save's format today, and the one before it."""


@pytest.mark.parametrize("zipped", ZIPPED)
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint32", ">i8"])
def test_array_of_integers_is_read_like_a_tensor(root: Path, dtype: str, zipped: bool):
    torch.save(np.array(SEEDS, dtype=dtype), seeds_file(), _use_new_zipfile_serialization=zipped)
    assert load_seeds() == SEEDS and all(type(seed) is int for seed in load_seeds())


def test_array_that_numpy_1_pickled_is_read(root: Path):
    """The published study's file: numpy 1 called its modules by other names than numpy 2."""
    torch.save(np.array(SEEDS), seeds_file())
    with zipfile.ZipFile(seeds_file()) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(seeds_file(), "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy.core.multiarray" in seeds_file().read_bytes()
    assert load_seeds() == SEEDS


def test_tensor_of_narrower_integers_is_read(root: Path):
    torch.save(torch.tensor([3, 1, 2], dtype=torch.int32), seeds_file())
    assert load_seeds() == [3, 1, 2]


class RunsCode:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", ZIPPED)
@pytest.mark.parametrize("inside", [False, True])
def test_file_that_would_run_code_is_refused_and_runs_none(root: Path, inside: bool, zipped: bool):
    evil = RunsCode(root / "was_here")
    torch.save([np.array(SEEDS), evil] if inside else evil, seeds_file(), _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="random_seeds.pt cannot be read .*are not loaded, since they could run code"):
        load_seeds()
    assert not (root / "was_here").exists()
    # Without the guard it would have: the test can fail.
    torch.load(seeds_file(), weights_only=False)
    assert (root / "was_here").exists()


@pytest.mark.parametrize(
    "content",
    [
        np.array([1.0, 2.0]),
        np.array([1, 2], dtype=object),
        np.array(["1", "2"]),
        np.array([[1, 2], [3, 4]]),
        np.array(5),
        np.array([], dtype=np.int64),
        np.array([True, False]),
        [np.int64(1), np.int64(2)],
        torch.tensor([True, False]),
        torch.tensor([1, 2]).to_sparse(),
        {"seeds": [1, 2]},
        "12",
    ],
    ids=str,
)
@pytest.mark.parametrize("zipped", ZIPPED)
def test_other_content_is_refused_in_a_sentence(root: Path, content: object, zipped: bool):
    torch.save(content, seeds_file(), _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="random_seeds.pt (cannot be read|does not hold)"):
        load_seeds()


def test_array_with_a_seed_twice_is_refused(root: Path):
    torch.save(np.array([1, 2, 1]), seeds_file())
    with pytest.raises(UserError, match="holds a seed twice"):
        load_seeds()


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1, 2])])
def test_other_files_are_refused(root: Path, content: bytes):
    seeds_file().write_bytes(content)
    with pytest.raises(UserError, match="random_seeds.pt cannot be read as a tensor of seeds"):
        load_seeds()


def test_allowing_arrays_here_allows_them_nowhere_else(root: Path):
    torch.save(np.array(SEEDS), seeds_file())
    load_seeds()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(seeds_file(), weights_only=True)


def test_pipes_and_refused_files_are_not_called_damaged(root: Path, monkeypatch: pytest.MonkeyPatch):
    before = contents(root, "*.pt")

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(UserError, match="cannot read .*random_seeds.pt: permission is denied; mend that"):
            load_seeds()
    assert contents(root, "*.pt") == before
    seeds_file().unlink()
    os.mkfifo(seeds_file())
    with pytest.raises(UserError, match="random_seeds.pt: it is a pipe"):
        load_seeds()
