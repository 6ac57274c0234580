"""What an optimizer multiplies gradients by, beside the learning rate: Adam's diagonal, from a checkpoint's second moments."""

import torch
from torch import Tensor

from tda.models.model_state import ModelState
from tda.models.training_plan import TrainingPlan


def preconditioner(plan: TrainingPlan, state: ModelState) -> dict[str, Tensor] | None:
    """Parameter name -> P (*shape) on the CPU, with which a step is minus rate x P x (a mean of gradients); None for SGD.

    Of Adam P is 1 / (sqrt(v) + eps), v the second moment corrected for its start at 0 (Kingma and Ba 2015, algorithm 1), and
    1 / sqrt(v + epsilon) of an optimizer whose defaults have an "epsilon", which stands inside the root.
    """
    if plan.momentum is not None:
        return None
    options = plan.optimizer([torch.zeros(1, requires_grad=True)]).defaults
    _, forgetting = options["betas"]
    inside, outside = options.get("epsilon", 0.0), options.get("eps", 0.0)
    steps, found = state.optimizer["step"], {}
    for name, moment in state.optimizer["exp_avg_sq"].items():
        moment = moment.to(torch.promote_types(moment.dtype, torch.float32))
        corrected = moment / (1 - forgetting ** float(steps[name]))
        found[name] = 1 / ((corrected + inside).sqrt() + outside)
    return found
