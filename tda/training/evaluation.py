"""What a model says of a split: losses, margins and predictions."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.gradients.single_precision import in_single_precision, single_precision, without_autocast
from tda.system.inputs import call
from tda.training.fused_evaluation import forward_of
from tda.training.runs import Evaluation

EVALUATION_BATCH = 64


def evaluate(model: nn.Module, objective: Objective, split: Split) -> Evaluation:
    """Losses, margins and predictions of one model on a split, dropout off; a model in 16 bits as a copy in float32."""
    model.eval()
    model, split = _precise(model, split)
    forward = forward_of(model, split.inputs)
    losses, margins, predictions = [], [], []
    with torch.no_grad(), without_autocast(split.device):
        for inputs, labels in split.batches(_at_once(split)):
            logits = forward(inputs)
            losses.append(objective.loss(logits, labels))
            margins.append(objective.margin(logits, labels))
            predictions.append(objective.predictions(logits))
    return Evaluation(torch.cat(losses).cpu(), torch.cat(margins).cpu(), torch.cat(predictions).cpu())


def logits_of_split(model: nn.Module, split: Split) -> Tensor:
    """Logits (n, ...) of every example, without gradients, the model in the mode that it is in, in float32 at least."""
    model, split = _precise(model, split)
    with torch.no_grad(), without_autocast(split.device):
        return torch.cat([call(model, inputs) for inputs, _ in split.batches(EVALUATION_BATCH)])


def of_logits(model: nn.Module, split: Split, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A function's values (n, ...) of every example's logits and label, as logits_of_split computes these, none of them kept.

    A text's logits are a number for each token and word: those of 2,000 texts for SmolLM2 take 19 GB.
    """
    model, split = _precise(model, split)
    found, start = None, 0
    with torch.no_grad(), without_autocast(split.device):
        for inputs, labels in split.batches(_at_once(split)):
            values = function(call(model, inputs), labels)
            # Kept one by one, each small tensor would lie in memory that large logits just left, and the next would not fit.
            found = values.new_empty(len(split), *values.shape[1:]) if found is None else found
            found[start : start + len(values)] = values
            start += len(values)
    return found


def _at_once(split: Split) -> int:
    # Of 64 texts SmolLM2 gives 600 MB of logits, and a loss or a margin takes several times that.
    return EVALUATION_BATCH if split.labels.dim() == 1 else max(1, EVALUATION_BATCH // 4)


def _precise(model: nn.Module, split: Split) -> tuple[nn.Module, Split]:
    return single_precision(model), replace(split, inputs=in_single_precision(split.inputs))
