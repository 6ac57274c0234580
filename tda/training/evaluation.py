"""What a model says of a split: losses, margins and predictions."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.gradients.single_precision import in_single_precision, single_precision, without_autocast
from tda.system.inputs import Inputs, call
from tda.system.padding import in_groups
from tda.training.fused_evaluation import forward_of
from tda.training.runs import Evaluation

EVALUATION_BATCH = 64


def evaluate(model: nn.Module, objective: Objective, split: Split) -> Evaluation:
    """Losses, margins and predictions of one model on a split, dropout off; a model in 16 bits as a copy in float32.

    Of a token that no loss counts the prediction is -1.
    """
    model.eval()
    model, split = _precise(model, split)
    forward = forward_of(model, split.inputs)
    losses = margins = None
    predictions = torch.full_like(split.labels, -1)
    with torch.no_grad(), without_autocast(split.device):
        for positions, inputs, labels in _parts(model, split):
            logits = forward(inputs)
            losses = _put(objective.loss(logits, labels), positions, losses, len(split))
            margins = _put(objective.margin(logits, labels), positions, margins, len(split))
            predicted = objective.predictions(logits)
            predictions[positions] = functional.pad(predicted, (0, split.labels[0].numel() - predicted[0].numel()), value=-1)
    predictions[split.labels < 0] = -1
    return Evaluation(losses.cpu(), margins.cpu(), predictions.cpu())


def logits_of_split(model: nn.Module, split: Split) -> Tensor:
    """Logits (n, ...) of every example, without gradients, the model in the mode that it is in, in float32 at least."""
    model, split = _precise(model, split)
    with torch.no_grad(), without_autocast(split.device):
        return torch.cat([call(model, inputs) for inputs, _ in split.batches(EVALUATION_BATCH)])


def of_logits(model: nn.Module, split: Split, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A function's value (n,) of every example's logits and label, as logits_of_split computes these, none of them kept.

    A text's logits are a number for each token and word: those of 2,000 texts for SmolLM2 take 19 GB.
    """
    model, split = _precise(model, split)
    found = None
    with torch.no_grad(), without_autocast(split.device):
        for positions, inputs, labels in _parts(model, split):
            found = _put(function(call(model, inputs), labels), positions, found, len(split))
    return found


def _parts(model: nn.Module, split: Split) -> Iterator[tuple[Tensor | slice, Inputs, Tensor]]:
    """Positions in the split, inputs and labels of a few examples at a time: of texts, those of similar length together."""
    start = 0
    for inputs, labels in split.batches(_at_once(split)):
        groups = in_groups(model, inputs, labels)
        yield from ((start + positions, *texts) for positions, *texts in groups)
        if not groups:
            yield slice(start, start + len(labels)), inputs, labels
        start += len(labels)


def _put(values: Tensor, positions: Tensor | slice, found: Tensor | None, count: int) -> Tensor:
    """The array (count,) of examples' values, these put where they belong; None where there is none yet.

    Kept one by one, each small tensor would lie in memory that large logits just left, and the next would not fit.
    """
    found = values.new_empty(count) if found is None else found
    found[positions] = values
    return found


def _at_once(split: Split) -> int:
    # Of 64 texts SmolLM2 gives 600 MB of logits, and a loss or a margin takes several times that.
    return EVALUATION_BATCH if split.labels.dim() == 1 else max(1, EVALUATION_BATCH // 4)


def _precise(model: nn.Module, split: Split) -> tuple[nn.Module, Split]:
    return single_precision(model), replace(split, inputs=in_single_precision(split.inputs))
