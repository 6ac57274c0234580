"""Files are whole or absent, whatever happens to their writer."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tda.system.errors import UserError
from tda.system.files import locked, make_folder, scratch_folder, sha256, write_atomically, write_bytes, write_text


def test_content_is_written_and_nothing_else_is_left(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_text(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644
    write_bytes(path, b"other")
    assert path.read_bytes() == b"other"


def test_target_keeps_its_old_content_until_the_writer_is_done(tmp_path: Path):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half of the ")
        assert path.read_bytes() == b"old" and temporary.parent == path.parent
        temporary.write_bytes(b"new")

    write_atomically(path, write)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError("a defect"), KeyboardInterrupt()])
def test_failed_writer_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, error: BaseException):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path):
    path = tmp_path / "file"
    code = (
        "import os, pathlib, signal, sys; from tda.system.files import write_atomically\n"
        "write_atomically(pathlib.Path(sys.argv[1]), lambda temporary: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parent.parent)
    assert killed.returncode == -signal.SIGKILL
    (orphan,) = tmp_path.iterdir()
    assert orphan.suffix == ".tmp" and not path.exists()
    write_bytes(tmp_path / "another_file", b"")
    assert orphan.exists()
    write_bytes(path, b"whole")
    assert not orphan.exists() and path.read_bytes() == b"whole"


def test_temporary_file_taken_for_an_orphan_before_it_was_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    make, made = tempfile.mkstemp, []

    def taken_at_first(**where) -> tuple[int, str]:
        handle, name = make(**where)
        made.append(name)
        if len(made) == 1:
            os.unlink(name)
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", taken_at_first)
    write_bytes(path, b"whole")
    assert len(made) == 2 and list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"whole"


def test_temporary_file_of_a_live_writer_stays(tmp_path: Path):
    path = tmp_path / "file"
    alive = tmp_path / ".file.abc.tmp"
    with open(alive, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        write_bytes(path, b"first")
        assert alive.exists()
    write_bytes(path, b"second")
    assert not alive.exists()


def test_file_in_place_of_a_folder_is_explained(tmp_path: Path):
    (tmp_path / "results").write_text("")
    for act in (make_folder, lambda path: write_bytes(path / "file", b"")):
        with pytest.raises(UserError, match="a file stands where a folder is needed") as caught:
            act(tmp_path / "results" / "experiment")
        assert str(tmp_path / "results" / "experiment") in str(caught.value)


def test_folder_in_place_of_a_file_is_explained(tmp_path: Path):
    (tmp_path / "file").mkdir()
    with pytest.raises(UserError, match="a folder stands where the file should be"):
        write_bytes(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "permission is denied"), (errno.EROFS, "the file system is read-only")],
)
def test_what_the_system_refuses_is_explained(tmp_path: Path, code: int, reason: str):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(code, "as the system says it")

    with pytest.raises(UserError, match=f"cannot write .*file: {reason}; mend that and run the same command again"):
        write_atomically(path, write)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_limit_on_file_size_is_explained(tmp_path: Path):
    path, limits = tmp_path / "file", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_bytes(path, b"old")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match="the limit on file size is reached"):
            write_bytes(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_lock_keeps_another_process_out(tmp_path: Path):
    path = tmp_path / "count"
    path.write_text("0")
    code = (
        "import pathlib, sys, time; from tda.system.files import locked\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with locked(path):\n"
        "        count = int(path.read_text()); time.sleep(0.002); path.write_text(str(count + 1))"
    )
    command = [sys.executable, "-c", code, str(path)]
    for process in [subprocess.Popen(command, cwd=Path(__file__).parent.parent) for _ in range(3)]:
        assert process.wait() == 0
    assert path.read_text() == "60"


def test_lock_of_a_folder_that_cannot_be_made_is_explained(tmp_path: Path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="a file stands where a folder is needed"), locked(tmp_path / "results" / "manifest"):
        pass


def test_hash_is_of_the_concatenation():
    assert sha256(b"ab", b"c") == sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_scratch_folders_of_others_stay_and_those_of_the_killed_go(tmp_path: Path):
    (tmp_path / "pair_statistics_of_mine").mkdir()
    left = tmp_path / ".pair_statistics.left.tmp"
    left.mkdir()
    (left / "in_use").touch()
    with scratch_folder(tmp_path, "pair_statistics") as first:
        (first / "array.npy").touch()
        assert not left.exists()
        with scratch_folder(tmp_path, "pair_statistics") as second:
            assert second != first and (first / "array.npy").exists()
        assert not second.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["pair_statistics_of_mine"]
