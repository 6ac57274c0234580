"""Where raw images come from: scikit-learn's bundle, and torchvision's MNIST and CIFAR-10 with verified checksums."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tda.data.pools import Pool
from tda.experiments.folders import data_folder
from tda.system.errors import UserError
from tda.system.files import locked, make_folder

if TYPE_CHECKING:
    pass

# md5 of the decompressed files; the archives' own md5 are checked by torchvision when it downloads them.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def mnist(split: str) -> Pool:
    """MNIST through torchvision, downloaded into data/MNIST/raw when absent."""
    from torchvision.datasets import MNIST

    folder = data_folder() / "MNIST" / "raw"
    _download_when_absent(MNIST, data_folder() / "MNIST", [folder / name for name in MNIST_MD5])
    for name, md5 in MNIST_MD5.items():
        if hashlib.md5((folder / name).read_bytes()).hexdigest() != md5:
            raise UserError(
                f"{folder / name} is damaged (its md5 is not {md5}); delete {folder} and run the same command again"
            )
    data = MNIST(data_folder(), train=split == "train")
    return Pool(data.data.numpy()[..., None], data.targets.numpy())


def cifar10(split: str) -> Pool:
    """CIFAR-10 through torchvision, downloaded into data/cifar-10-batches-py when absent."""
    from torchvision.datasets import CIFAR10

    folder = data_folder() / CIFAR10.base_folder
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list] + [CIFAR10.meta["filename"]]
    _download_when_absent(CIFAR10, folder, [folder / name for name in names])
    try:
        data = CIFAR10(data_folder(), train=split == "train")
    except RuntimeError as error:
        raise UserError(f"a file in {folder} is damaged (wrong md5); delete {folder} and run the same command again") from error
    return Pool(data.data, np.asarray(data.targets, dtype=np.int64))


def _download_when_absent(dataset: type, folder: Path, files: list[Path]) -> None:
    """Download into a folder of its own, then rename, so that a killed download leaves nothing behind that is used."""
    if all(path.exists() for path in files):
        return
    make_folder(data_folder())
    with locked(folder):
        if all(path.exists() for path in files):
            return
        if folder.exists():
            missing = next(path for path in files if not path.exists())
            raise UserError(f"{missing} is missing; put it there, or delete {folder} so that it is downloaded again")
        with tempfile.TemporaryDirectory(prefix=".download-", dir=data_folder()) as temporary:
            try:
                dataset(temporary, train=True, download=True)
            except (OSError, RuntimeError) as error:
                names = ", ".join(path.name for path in files)
                raise UserError(
                    f"{dataset.__name__} is not in {data_folder()} and cannot be downloaded; put {names} into {files[0].parent}"
                ) from error
            shutil.move(Path(temporary) / folder.name, folder)
