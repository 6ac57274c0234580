"""Each token's share of a text's score: where the score of a continuation is a sum over its tokens, what each of them adds."""

import numpy as np

# Of the largest score; single precision leaves some 1e-6 of it.
_TOLERANCE = 1e-3


def token_shares(whole: np.ndarray, of_tokens: np.ndarray) -> np.ndarray | None:
    """Shares (n, T) whose rows sum to the scores `whole` (n,), of the scores (n, T) of each token alone.

    The loss of a continuation is the mean over its tokens, and so is its gradient: a method that is linear in the test
    example's gradient scores it by the mean of its tokens' scores. One that divides by that gradient's norm, as a cosine does,
    scores it by another fixed combination of them, which is found by least squares over the training texts. None where neither
    gives the scores to a thousandth of the largest, as of methods that look at the text and not at its tokens.
    """
    num_texts, count = of_tokens.shape
    if count == 1:
        return whole[:, None].copy()
    if (of_tokens == of_tokens[:, :1]).all():
        return None
    tolerance = _TOLERANCE * np.abs(whole).max()
    for weights in _combinations(whole, of_tokens, num_texts >= 2 * count):
        shares = of_tokens * weights
        missing = whole - shares.sum(axis=1)
        if np.abs(missing).max() <= tolerance:
            # What rounding left is spread evenly, so that the sum is exact.
            return shares + missing[:, None] / count
    return None


def _combinations(whole: np.ndarray, of_tokens: np.ndarray, enough: bool):
    yield np.full(of_tokens.shape[1], 1 / of_tokens.shape[1])
    if enough:
        yield np.linalg.lstsq(of_tokens, whole, rcond=None)[0]
