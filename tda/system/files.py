"""Files that are whole or absent: atomic writing, locks and hashes."""

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tda.system.errors import UserError

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
}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing `path` into a UserError."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno, error.strerror or str(error))
        raise UserError(f"cannot write {path}: {reason}; mend that and run the same command again") from error


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
