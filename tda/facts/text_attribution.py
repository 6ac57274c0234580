"""A continuation attributed to training texts: each seed's score of every text by a method, and each token's share of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tda.data.splits import Split
from tda.facts.token_shares import token_shares
from tda.methods.registry import Method
from tda.scores.sign import SIGN
from tda.statistics.pair_statistics import FEWEST_SEEDS, benjamini_hochberg, mean_and_std, signal_to_noise, t_test
from tda.system.errors import UserError
from tda.training.members import Member, built


@dataclass(frozen=True)
class Attributed:
    """What a method says of every training text, each (n,) float64.

    mean, std: over the seeds, each seed's score being the mean over its checkpoints; std NaN for a single seed. q: of the
    t-test over seeds, corrected for the number of texts; NaN for fewer than three seeds, or where every seed has the same
    score. shares: (n, T) of each token of the continuation, which sum to the mean; None where the method has none.
    """

    method: str
    mean: np.ndarray
    std: np.ndarray
    q: np.ndarray
    shares: np.ndarray | None


def scores_of_seed(members: Sequence[Member], asking: Split, methods: Sequence[tuple[Method, dict]]) -> dict[str, Tensor]:
    """By "<method>": (n, 1 + T) float64 of a seed, means over its checkpoints: the score of each training text for the whole
    continuation, then each token's share; without shares (n, 1). asking: as continuations.asking_split makes it.

    Raises UserError if a score is not a finite number.
    """
    study = replace(members[0].study, test=asking)
    own = built([replace(member, study=study) for member in members])
    train, test = study.inputs(study.train), study.inputs(asking)
    found = {}
    for method, settings in methods:
        tables = [each.scores.double().cpu().numpy() for each in method.score(own, train, test, settings)]
        if not all(np.isfinite(table).all() for table in tables):
            raise UserError(
                f"scores by {method.name} of seed {members[0].seed_id} are NaN or infinite; check that its checkpoints hold "
                "finite numbers, or leave that method out"
            )
        whole = np.mean([table[:, 0] for table in tables], axis=0)[:, None]
        # What does not look at the model's loss has no shares of it, also where there is a single token.
        shares = [token_shares(table[:, 0], table[:, 1:]) if method.sign == SIGN else None for table in tables]
        known = all(share is not None for share in shares)
        together = np.concatenate([whole, np.mean(shares, axis=0)], axis=1) if known else whole
        found[method.name] = torch.from_numpy(together)
    return found


def attributed(method: str, of_seeds: Sequence[Tensor]) -> Attributed:
    """The seeds' scores of a method (n, 1 + T) or (n, 1) together."""
    sample = np.stack([each[:, 0].numpy() for each in of_seeds])
    count, num_texts = sample.shape
    unknown = np.full(num_texts, np.nan)
    mean, std = (sample[0], unknown) if count == 1 else mean_and_std(sample)
    q = unknown
    if count >= FEWEST_SEEDS and (sample != sample[0]).any():
        q = benjamini_hochberg(t_test(signal_to_noise(mean, std), count))
    known = all(each.shape[1] > 1 for each in of_seeds)
    shares = np.mean([each[:, 1:].numpy() for each in of_seeds], axis=0) if known else None
    return Attributed(method, mean, std, q, shares)
