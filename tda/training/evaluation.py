"""What a model says of a split: losses, margins and predictions."""

import torch
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.system.inputs import call
from tda.training.fused_evaluation import forward_of
from tda.training.runs import Evaluation

EVALUATION_BATCH = 64


def evaluate(model: nn.Module, objective: Objective, split: Split) -> Evaluation:
    """Losses, margins and predictions of one model on a split, dropout off."""
    model.eval()
    forward = forward_of(model, split.inputs)
    losses, margins, predictions = [], [], []
    with torch.no_grad():
        for inputs, labels in split.batches(EVALUATION_BATCH):
            logits = forward(inputs)
            losses.append(objective.loss(logits, labels))
            margins.append(objective.margin(logits, labels))
            predictions.append(objective.predictions(logits))
    return Evaluation(torch.cat(losses).cpu(), torch.cat(margins).cpu(), torch.cat(predictions).cpu())


def logits_of_split(model: nn.Module, split: Split) -> Tensor:
    """Logits (n, ...) of every example, without gradients, the model in the mode that it is in."""
    with torch.no_grad():
        return torch.cat([call(model, inputs) for inputs, _ in split.batches(EVALUATION_BATCH)])
