"""Files that are whole or absent: atomic writing, locks and hashes; and reading, which tells damaged from unreadable."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tda.system.errors import UserError

try:
    import fcntl
except ModuleNotFoundError as error:
    raise UserError("Windows is not supported, since it lacks the locks of Linux and macOS; use WSL there") from error

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit on file size is reached",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where the file should be",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.ELOOP: "its links lead in a circle",
}

_IN_USE = "in_use"
"""File that a process holds a lock of while it uses a scratch folder."""

_NO_FILES = {
    stat.S_ISFIFO: "it is a pipe, and a file is needed",
    stat.S_ISSOCK: "it is a socket, and a file is needed",
    stat.S_ISCHR: "it is a device, and a file is needed",
    stat.S_ISBLK: "it is a device, and a file is needed",
    stat.S_ISDIR: "a folder stands where the file should be",
}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing `path` into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(error)}; mend that and run the same command again") from error


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno, error.strerror or str(error))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what keeps the operating system from reading a file into a UserError, which does not call the file damaged.

    What is no file is refused unopened: a pipe would let its reader wait for ever. FileNotFoundError passes, and so do errors
    without a number, which libraries raise about a file's content.
    """
    with reading_folder(path):
        mode = path.stat().st_mode
        for is_no_file, reason in _NO_FILES.items():
            if is_no_file(mode):
                raise UserError(f"cannot read {path}: {reason}")
        # Libraries report a refused file in ways of their own, so that it is tried here first.
        with open(path, "rb", buffering=0) as file:
            file.read(1)
        yield


@contextlib.contextmanager
def reading_folder(path: Path) -> Iterator[None]:
    """The same for a folder and what lies in it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        place = error.filename if isinstance(error.filename, str) else path
        raise UserError(f"cannot read {place}: {_reason(error)}; mend that and run the same command again") from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents; raises UserError where that is impossible."""
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it, so that `path` is never half a file.

    A writer holds a lock on its temporary file for as long as it lives; what a killed writer of the same target
    left behind is therefore recognised by its free lock and removed. Raises UserError where writing fails.
    """
    make_folder(path.parent)
    with _explained(path):
        _remove_orphans(path)
        handle, temporary = _locked_temporary(path)
        try:
            write(temporary)
            os.chmod(temporary, 0o644)
            _sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """An open handle and the name of a new file beside `path` that this process holds a lock on."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink > 0:
            return handle, Path(name)
        # Another writer of the same target took the file for an orphan before it was locked.
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""

    def write(temporary: Path) -> None:
        with open(temporary, "r+b") as file:
            file.write(content)

    write_atomically(path, write)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder beside `folder`, then rename it, so that `folder` is whole or absent.

    Call it under a lock. Raises UserError where writing fails or where `folder` exists.
    """
    make_folder(folder.parent)
    with _explained(folder), tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        temporary = Path(name) / folder.name
        temporary.mkdir()
        write(temporary)
        for path in temporary.iterdir():
            _sync(path)
        temporary.rename(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_orphans(path: Path) -> None:
    for orphan in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            handle = os.open(orphan, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            orphan.unlink(missing_ok=True)
        finally:
            os.close(handle)


@contextlib.contextmanager
def scratch_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """A hidden folder in another that is deleted at the end, as are those that killed processes left for the same purpose."""
    for left in parent.glob(f".{purpose}.*.tmp"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), open(left / _IN_USE, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{purpose}.", suffix=".tmp", dir=parent, ignore_cleanup_errors=True) as made:
        with open(Path(made) / _IN_USE, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield Path(made)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock named after `path` (a hidden file beside it) against other processes."""
    make_folder(path.parent)
    with _explained(path), open(path.parent / f".{path.name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256(*parts: bytes) -> str:
    """Hexadecimal SHA-256 of the parts' concatenation."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
