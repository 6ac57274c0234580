"""Adam whose epsilon stands inside the root, which makes the trained model a smooth function of its data."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class AdamInsideRoot(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) with coupled weight decay and the update rate * m_hat / sqrt(v_hat + epsilon).

    Torch divides by sqrt(v_hat) + epsilon instead. Where a parameter's gradients nearly vanish, that update is their sign,
    which jumps, and its derivative grows as 1 / sqrt(v_hat); inside the root epsilon bounds it by 1 / sqrt(epsilon)
    (Engstrom et al. 2025, arXiv 2503.13751). The state has the names of torch's Adam: step (), exp_avg and exp_avg_sq like
    the parameter.

    capturable: the step is counted on the parameters' device, so that a CUDA graph can hold it.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        epsilon: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        capturable: bool = False,
    ) -> None:
        defaults = {"lr": lr, "epsilon": epsilon, "weight_decay": weight_decay, "betas": betas, "capturable": capturable}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                _update(parameters, [self._state_of(parameter) for parameter in parameters], group)
        return loss

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _update(parameters: list[Tensor], states: list[dict[str, Tensor]], group: dict) -> None:
    steps, means, squares = ([state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq"))
    first, second = group["betas"]
    gradients = [parameter.grad for parameter in parameters]
    if group["weight_decay"]:
        gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
    torch._foreach_add_(steps, 1)
    torch._foreach_lerp_(means, gradients, 1 - first)
    torch._foreach_mul_(squares, second)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
    # Numbers of the host where they can be read; a graph needs tensors, in float64 as the host's numbers are.
    counted = [step.double() for step in steps] if group["capturable"] else [step.item() for step in steps]
    corrected = torch._foreach_div(squares, [1 - second**count for count in counted])
    torch._foreach_add_(corrected, group["epsilon"])
    torch._foreach_sqrt_(corrected)
    scaled = torch._foreach_mul(means, [group["lr"] / (1 - first**count) for count in counted])
    torch._foreach_addcdiv_(parameters, scaled, corrected, -1.0)
