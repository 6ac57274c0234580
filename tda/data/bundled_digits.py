"""The handwritten digits that come with scikit-learn."""

from typing import TYPE_CHECKING

import numpy as np

from tda.data.pools import Pool

if TYPE_CHECKING:
    pass


def bundled_digits(split: str) -> Pool:
    """scikit-learn's 1,797 handwritten digits, 8x8 with 17 grey levels, brought to 28x28 bilinearly.

    The split is fixed: every third example of the bundle (positions 0, 3, 6, ...) is the test part, the others, in
    their order, are the training part.
    """
    import torch
    from sklearn.datasets import load_digits

    bundle = load_digits()
    position = np.arange(len(bundle.target))
    chosen = position % 3 == 0 if split == "test" else position % 3 != 0
    small = torch.from_numpy(bundle.images[chosen])[:, None] * (255 / 16)
    large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    return Pool(large.round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), bundle.target[chosen].astype(np.int64))
