"""Files of named tensors: read back bit for bit, or refused in a sentence."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tda.system.errors import UserError
from tda.system.tensor_files import read_stream, read_tensors, write_stream, write_tensors
from tda.system.tensor_heads import DamagedFileError, read_info

INFO = {"seed": 3, "plan": {"epochs": 2, "rate": 0.1}, "names": ["a", "b"], "nothing": None}
WHOLE = "is not a whole tensor file of this project"


def some_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 4, generator=generator),
        "double": torch.randn(5, generator=generator, dtype=torch.float64),
        "half": torch.randn(2, 2, generator=generator).bfloat16(),
        "step": torch.tensor(7.0),
        "tokens": torch.arange(6).view(2, 3),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


def readers() -> list[Callable[[Path], object]]:
    return [read_tensors, read_info, lambda path: list(read_stream(path, "weight", 2))]


def refused(path: Path, words: str, kind: type[UserError] = DamagedFileError, read: Callable = read_tensors) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read(path)
    assert type(caught.value) is kind and str(path) in str(caught.value)


def test_tensors_and_information_come_back_bit_for_bit(tmp_path: Path):
    path, tensors = tmp_path / "new" / "file.safetensors", some_tensors()
    write_tensors(path, tensors, INFO)
    found, info = read_tensors(path)
    assert found.keys() == tensors.keys() and list(path.parent.iterdir()) == [path]
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape and torch.equal(found[name], tensor)
    assert {key: value for key, value in info.items() if key != "sha256"} == INFO
    assert read_info(path) == info and len(info["sha256"]) == 64


def test_same_content_gives_the_same_bytes(tmp_path: Path):
    """In whatever order it is named; and the checksum is of the tensors alone."""
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    write_tensors(first, some_tensors(), INFO)
    write_tensors(second, dict(reversed(some_tensors().items())), dict(reversed(INFO.items())))
    write_tensors(other, some_tensors(), {"seed": 4})
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    assert read_info(first)["sha256"] == read_info(other)["sha256"]


def test_checksum_is_of_names_types_shapes_and_bytes(tmp_path: Path):
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2])}
    write_tensors(tmp_path / "file", tensors, {})
    parts = (b"a torch.int64 (2,)", tensors["a"].numpy().tobytes(), b"b torch.float32 (2, 3)", tensors["b"].numpy().tobytes())
    assert read_info(tmp_path / "file")["sha256"] == hashlib.sha256(b"".join(parts)).hexdigest()
    checksums = set()
    for changed in (
        tensors,
        {"b": tensors["b"], "c": tensors["a"]},
        {"b": tensors["b"].view(3, 2), "a": tensors["a"]},
        {"b": tensors["b"].view(torch.int32), "a": tensors["a"]},
        {"b": tensors["b"] + 1, "a": tensors["a"]},
    ):
        write_tensors(tmp_path / "file", changed, {})
        checksums.add(read_info(tmp_path / "file")["sha256"])
    assert len(checksums) == 5


@pytest.mark.parametrize("read", readers())
@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_file_is_refused(tmp_path: Path, size: int, read: Callable):
    path = tmp_path / "file"
    write_tensors(path, {"weight": torch.randn(30, 4, generator=torch.Generator().manual_seed(0))}, INFO)
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    refused(path, WHOLE, read=read)


def test_every_changed_byte_of_the_tensors_is_noticed(tmp_path: Path):
    path = tmp_path / "file"
    write_tensors(path, {"weight": torch.randn(3, 2, generator=torch.Generator().manual_seed(0))}, INFO)
    whole = path.read_bytes()
    for place in range(1, 25):
        content = bytearray(whole)
        content[-place] ^= 1
        path.write_bytes(content)
        refused(path, "is damaged: its tensors do not match its checksum")
        refused(path, "is damaged: its tensors do not match its checksum", read=readers()[2])
        assert read_info(path)["seed"] == 3


@pytest.mark.parametrize("read", readers())
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"tda": "[]"}, {"tda": "{}"}, {"tda": "no json"}])
def test_safetensors_file_of_another_project_is_refused(tmp_path: Path, metadata: dict | None, read: Callable):
    path = tmp_path / "file"
    path.write_bytes(safetensors.torch.save({"weight": torch.zeros(3)}, metadata))
    refused(path, WHOLE, read=read)


@pytest.mark.parametrize("read", readers())
def test_other_files_are_refused_and_nothing_is_unpickled(tmp_path: Path, read: Callable):
    path = tmp_path / "file"
    path.write_text("no tensors\n" * 100)
    refused(path, WHOLE, read=read)
    torch.save({"weight": torch.zeros(3)}, path)
    refused(path, WHOLE, read=read)
    path.unlink()
    path.mkdir()
    refused(path, "a folder stands where the file should be", UserError, read)


@pytest.mark.parametrize("read", readers())
def test_missing_file_is_not_called_damaged(tmp_path: Path, read: Callable):
    refused(tmp_path / "file", "is missing", UserError, read)


@pytest.mark.parametrize("read", readers())
def test_file_that_may_not_be_read_is_neither_damaged_nor_missing(tmp_path: Path, read: Callable):
    path, user = tmp_path / "file", os.geteuid()
    write_tensors(path, some_tensors(), INFO)
    path.chmod(0)
    try:
        if user == 0:
            # The superuser may read everything.
            os.seteuid(65534)
        refused(path, "cannot read .*file: permission is denied", UserError, read)
    finally:
        os.seteuid(user)


def test_file_that_cannot_be_written_is_explained(tmp_path: Path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="cannot write .*: a file stands where a folder is needed"):
        write_tensors(tmp_path / "results" / "file", some_tensors(), INFO)


def rows(count: int) -> Tensor:
    return torch.randn(count, 3, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1, 1, 5), (4, 0, 3)])
def test_stream_is_the_file_of_the_whole_tensor(tmp_path: Path, sizes: tuple[int, ...]):
    """Same checksum and content as where the tensor is written at once, whatever the blocks."""
    streamed, whole = tmp_path / "streamed", tmp_path / "whole"
    write_stream(streamed, "weight", (7, 3, 2), rows(7).split(sizes), INFO)
    write_tensors(whole, {"weight": rows(7)}, INFO)
    assert read_info(streamed) == read_info(whole)
    for path in (streamed, whole):
        tensors, _ = read_tensors(path)
        assert torch.equal(tensors["weight"], rows(7))
        assert torch.equal(torch.cat(list(read_stream(path, "weight", 2))), rows(7))
        assert [len(block) for block in read_stream(path, "weight", 3)] == [3, 3, 1]
    assert sorted(tmp_path.iterdir()) == [streamed, whole]


def test_stream_gives_the_same_bytes_twice(tmp_path: Path):
    for name, sizes in (("first", 2), ("second", 5)):
        write_stream(tmp_path / name, "weight", (7, 3, 2), rows(7).split(sizes), INFO)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_blocks_of_another_precision_are_written_in_float32(tmp_path: Path):
    write_stream(tmp_path / "file", "weight", (7, 3, 2), rows(7).double().split(3), INFO)
    assert torch.equal(read_tensors(tmp_path / "file")[0]["weight"], rows(7))


def test_blocks_that_end_in_an_error_leave_the_old_file(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def blocks():
        yield rows(3)
        raise UserError("not finite")

    with pytest.raises(UserError, match="not finite"):
        write_stream(path, "weight", (7, 3, 2), blocks(), INFO)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_stream_is_checked_before_its_first_block(tmp_path: Path):
    path = tmp_path / "file"
    write_stream(path, "weight", (7, 3, 2), [rows(7)], INFO)
    with open(path, "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"x")
    blocks = read_stream(path, "weight", 2)
    with pytest.raises(DamagedFileError, match="is damaged: its tensors do not match its checksum"):
        next(blocks)


def test_tensor_of_another_name_is_refused(tmp_path: Path):
    write_stream(tmp_path / "file", "other", (7, 3, 2), [rows(7)], INFO)
    refused(tmp_path / "file", WHOLE, read=readers()[2])
