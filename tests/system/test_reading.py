"""Reading tells what may not be read from what is damaged, and waits for nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CHECKOUT, assert_refused

from tda.system.errors import UserError
from tda.system.files import reading, reading_folder
from tda.system.tensor_files import read_tensors, write_tensors
from tda.system.tensor_heads import DamagedFileError, read_info

NO_SUCH_PROCESS_MEMORY = Path("/proc/self/mem")
"""A file of Linux's whose beginning cannot be read: an input/output error without a broken disk."""


def refuse(path: Path, *arguments: object, **options: object) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_what_can_be_read_is_read_and_its_own_errors_pass(tmp_path: Path):
    (tmp_path / "file").write_text("content")
    with reading(tmp_path / "file"):
        assert (tmp_path / "file").read_text() == "content"
    with pytest.raises(FileNotFoundError), reading(tmp_path / "absent"):
        pass
    for error in (ValueError("of the content"), OSError("of a decoder, without a number")):
        with pytest.raises(type(error), match="of "), reading(tmp_path / "file"):
            raise error


def test_what_is_no_file_is_refused_unopened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refused = {tmp_path / "pipe": "it is a pipe", tmp_path: "a folder stands where the file should be"}
    refused |= {Path("/dev/null"): "it is a device", tmp_path / "circle": "its links lead in a circle"}
    for path, words in refused.items():
        with pytest.raises(UserError, match=f"cannot read {path}: {words}"), reading(path):
            raise AssertionError("it was opened")


def test_refused_file_is_explained_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("content")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match="cannot read .*file: permission is denied; mend that and run the same"):
        with reading(tmp_path / "file"):
            pass


def test_error_of_the_disk_is_explained(tmp_path: Path):
    if not NO_SUCH_PROCESS_MEMORY.exists():
        pytest.skip("only Linux has a file whose reading fails")
    (tmp_path / "file").symlink_to(NO_SUCH_PROCESS_MEMORY)
    with pytest.raises(UserError, match="cannot read .*file: Input/output error"), reading(tmp_path / "file"):
        pass


def test_refused_folder_is_explained_by_what_was_refused(tmp_path: Path):
    with pytest.raises(UserError, match="cannot read /else/where: permission is denied"), reading_folder(tmp_path):
        refuse(Path("/else/where"))


def test_tensor_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"a": torch.zeros(2)}, {})
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        for read in (read_tensors, read_info):
            with pytest.raises(UserError, match="cannot read .*permission is denied") as caught:
                read(path)
            assert not isinstance(caught.value, DamagedFileError)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="it is a pipe"):
        read_tensors(path)


def test_windows_is_named_as_unsupported_in_one_sentence():
    """Python for Windows has no module fcntl."""
    program = "import sys; sys.modules['fcntl'] = None\nimport tda.system.files"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("UserError: Windows is not supported, since it lacks the locks of Linux and macOS; use WSL there")


def test_script_on_windows_ends_in_that_sentence():
    program = "import runpy, sys; sys.modules['fcntl'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    script = CHECKOUT / "run_subset_generation.py"
    done = subprocess.run([sys.executable, "-c", program, script], capture_output=True, text=True)
    assert_refused(done, "Windows is not supported")
