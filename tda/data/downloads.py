"""Where raw images come from: MNIST and CIFAR-10, as published or by torchvision, with verified checksums."""

import gzip
import hashlib
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from tda.data.pools import Pool
from tda.experiments.folders import data_folder
from tda.system.errors import UserError
from tda.system.files import locked, make_folder, reading, reading_folder

# md5 of the decompressed files; the archives' own md5 are checked by torchvision when it downloads them.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_IMAGES_HEADER, _LABELS_HEADER = 16, 8
"""Bytes before the numbers in a file of the IDX format."""


def mnist(split: str) -> Pool:
    """MNIST out of data/MNIST/raw, unpacked or as published (.gz); downloaded by torchvision when absent.

    Raises UserError if a file is missing, unreadable or damaged, or if there is no network to download them with.
    """
    folder = data_folder() / "MNIST"
    files = {name: _packed_or_not(folder / "raw" / name) for name in MNIST_MD5}
    if not all(_is_there(path) for path in files.values()):
        from torchvision.datasets import MNIST

        _download_when_absent(MNIST, folder, list(files.values()))
    images, labels = (_mnist_content(files[name], MNIST_MD5[name], folder) for name in _MNIST_FILES[split])
    pixels = np.frombuffer(images, dtype=np.uint8, offset=_IMAGES_HEADER).reshape(-1, 28, 28, 1).copy()
    return Pool(pixels, np.frombuffer(labels, dtype=np.uint8, offset=_LABELS_HEADER).astype(np.int64))


def _packed_or_not(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    return packed if _is_there(packed) and not _is_there(path) else path


def _mnist_content(path: Path, md5: str, folder: Path) -> bytes:
    try:
        with reading(path):
            content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error):  # of gzip: what the system refuses is a UserError by now
        content = b""
    if hashlib.md5(content).hexdigest() != md5:
        raise UserError(_damaged(path, folder))
    return content


def cifar10(split: str) -> Pool:
    """CIFAR-10 through torchvision out of data/cifar-10-batches-py.

    When absent, it is unpacked from cifar-10-python.tar.gz in data/, or downloaded. Raises UserError as mnist does.
    """
    from torchvision.datasets import CIFAR10

    folder = data_folder() / CIFAR10.base_folder
    md5_of = dict([*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])])
    _download_when_absent(CIFAR10, folder, [folder / name for name in md5_of], data_folder() / CIFAR10.filename)
    for name in md5_of:
        with reading(folder / name):
            pass
    try:
        with reading_folder(folder):
            data = CIFAR10(data_folder(), train=split == "train")
    except RuntimeError as error:
        damaged = [name for name, md5 in md5_of.items() if _md5(folder / name) != md5]
        raise UserError(_damaged(folder / (damaged or [""])[0], folder)) from error
    return Pool(data.data, np.asarray(data.targets, dtype=np.int64))


def _download_when_absent(dataset: type, folder: Path, files: list[Path], archive: Path | None = None) -> None:
    """Download into a folder of its own, then rename, so that a killed download leaves nothing behind that is used.

    archive: what the download would bring, whose md5 is dataset.tgz_md5; used where it lies there already.
    """
    if all(_is_there(path) for path in files):
        return
    make_folder(data_folder())
    with locked(folder):
        missing = [path for path in files if not _is_there(path)]
        if not missing:
            return
        if folder.exists():
            raise UserError(f"{missing[0]} is missing; put it there, or delete {folder} so that it is downloaded again")
        with tempfile.TemporaryDirectory(prefix=".download-", dir=data_folder()) as temporary:
            if archive is not None and _is_there(archive):
                if _md5(archive) != dataset.tgz_md5:
                    raise UserError(_damaged(archive, archive))
                (Path(temporary) / archive.name).symlink_to(archive)
            try:
                dataset(temporary, train=True, download=True)
            except (OSError, RuntimeError) as error:
                names = ", ".join(path.name for path in files)
                places = f"put {names} into {files[0].parent}"
                places += f", or {archive.name} into {archive.parent}" if archive is not None else " (.gz as published will do)"
                raise UserError(f"{dataset.__name__} is not in {data_folder()} and cannot be downloaded; {places}") from error
            shutil.move(Path(temporary) / folder.name, folder)


def _is_there(path: Path) -> bool:
    """Whether there is something of this name; raises UserError where the system does not say."""
    with reading_folder(path):
        return path.exists()


def _md5(path: Path) -> str:
    with reading(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _damaged(path: Path, deleted: Path) -> str:
    return (
        f"{path} is damaged (its md5 is not that of the published file); put the published one there, or delete {deleted} and "
        f"run the same command again, which downloads it"
    )
