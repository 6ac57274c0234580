"""What a language model says to a text that asks for something: how probable the answer is, and how far from the first place.

The labels of such a text count the answer's tokens alone, so that the objective's loss is the mean over these; here the answer
counts as a whole.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tda.data.splits import Split
from tda.system.inputs import call

_BATCH = 32


@dataclass(frozen=True)
class Answers:
    """log_probability (..., n) float64: of the whole answer, given what stands before it, in nats, at most 0. rank (..., n)
    int64, from 1: the largest among the ranks of its tokens, each given those before it; 1 where greedy decoding gives it.
    """

    log_probability: np.ndarray
    rank: np.ndarray


def measured_answers(model: nn.Module, split: Split) -> Tensor:
    """Log-probability and rank of every example's answer, (n, 2) float64, the model in the mode that it is in."""
    with torch.no_grad():
        return torch.cat([_measured(call(model, inputs), labels) for inputs, labels in split.batches(_BATCH)])


def as_answers(measured: Tensor) -> Answers:
    """Measured numbers (..., n, 2) as answers."""
    return Answers(measured[..., 0].double().numpy(), measured[..., 1].long().numpy())


def _measured(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits (n, T, V), each for the token at the next place, and labels (n, T), negative where a token does not count."""
    targets = labels[:, 1:]
    counted = targets >= 0
    chances = logits[:, :-1].double().log_softmax(dim=2)
    of_token = chances.gather(2, targets.clamp(min=0)[..., None])
    ranks = 1 + (chances > of_token).sum(dim=2)
    log_probability = of_token.squeeze(2).masked_fill(~counted, 0.0).sum(dim=1)
    rank = ranks.masked_fill(~counted, 1).max(dim=1).values
    return torch.stack([log_probability, rank.double()], dim=1)
