"""The handwritten digits that come with scikit-learn."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from tda.data.pools import Pool


def bundled_digits(split: str) -> Pool:
    """scikit-learn's 1,797 handwritten digits, 8x8 with 17 grey levels, brought to 28x28 bilinearly.

    The split is fixed: every third example of the bundle (positions 0, 3, 6, ...) is the test part, the others, in
    their order, are the training part.
    """
    images, labels = _enlarged(split)
    return Pool(images.copy(), labels.copy())


@cache
def _enlarged(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28, 1) of bytes and labels (n,); a step asks for them several times."""
    import torch

    images, labels = _bundle()
    position = np.arange(len(labels))
    chosen = position % 3 == 0 if split == "test" else position % 3 != 0
    small = torch.from_numpy(images[chosen])[:, None] * (255 / 16)
    large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    return large.round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), labels[chosen].astype(np.int64)


def _bundle() -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 8, 8) float64 and labels (n,): from the bundle's file, for the import of scikit-learn takes a second."""
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1]

    from sklearn.datasets import load_digits

    bundle = load_digits()
    return bundle.images, bundle.target
