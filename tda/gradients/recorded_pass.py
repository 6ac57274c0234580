"""One forward and backward pass that collects what goes into chosen modules and the gradients of what comes out.

No parameter's gradient is computed on the way, nor the gradient of the first chosen module's input.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from tda.gradients.quantities import Quantity
from tda.system.inputs import Inputs, call, count_of, device_of


@dataclass
class ModuleCall:
    """One call of a module in a pass over n examples.

    arguments, keywords: what went in; outputs: the floating-point tensors that came out; versions: how often each tensor that
    went in had been overwritten by then; deltas[r][i]: the gradient of quantity r, summed over the examples, with respect to
    outputs[i], absent where the output has no effect.
    """

    arguments: tuple
    keywords: dict
    outputs: list[Tensor]
    versions: list[int]
    deltas: list[dict[int, Tensor]] = field(default_factory=list)

    def input_is_intact(self) -> bool:
        """Whether no later operation has overwritten the tensors that went in."""
        return self.versions == _versions(self.arguments, self.keywords)

    def delta(self, quantity: int, output: int = 0) -> Tensor:
        """Gradient of one quantity with respect to one output, zero where there is no effect."""
        found = self.deltas[quantity].get(output)
        return torch.zeros_like(self.outputs[output]) if found is None else found


class _GraphRoot(torch.autograd.Function):
    """Makes a tensor that nothing differentiable led to the start of a graph, without a copy.

    Unlike a leaf, the result may be overwritten by the operation that follows, as an in-place ReLU does.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, output: Tensor, anchor: Tensor) -> Tensor:
        return output.detach()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, delta: Tensor) -> tuple[None, None]:
        return None, None


def record_calls(
    model: nn.Module, modules: Collection[nn.Module], inputs: Inputs, labels: Tensor, quantity: Quantity
) -> tuple[dict[nn.Module, list[ModuleCall]], Tensor]:
    """Run the model in evaluation mode over n examples' inputs and labels and record every call of the modules.

    Returns the calls of each module in order, and the quantities (n, R), detached.
    """
    calls = {module: [] for module in modules}
    anchor = torch.zeros((), device=device_of(inputs), requires_grad=True)
    with ExitStack() as stack:
        stack.enter_context(evaluation(model, differentiable=()))
        for module in calls:
            handle = module.register_forward_hook(_recorder(calls[module], anchor), with_kwargs=True)
            stack.callback(handle.remove)
        values = quantity(call(model, inputs), labels)
        values = values.reshape(count_of(inputs), -1)
        for r in range(values.shape[1]):
            for module_call in (module_call for recorded in calls.values() for module_call in recorded):
                module_call.deltas.append({})
            if values.requires_grad:
                torch.autograd.grad(values[:, r].sum(), anchor, retain_graph=r + 1 < values.shape[1], allow_unused=True)
    return calls, values.detach()


@contextmanager
def evaluation(model: nn.Module, differentiable: Collection[str]) -> Iterator[None]:
    """Put the model in evaluation mode with gradients for the named parameters only, and restore it afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(name, parameter, parameter.requires_grad) for name, parameter in model.named_parameters()]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        # The fused encoder layer would pass its children by.
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        for name, parameter, _ in flags:
            parameter.requires_grad_(name in differentiable)
        with torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, mode in modes:
            module.training = mode
        for _, parameter, flag in flags:
            parameter.requires_grad_(flag)


def floating_tensors(output: object) -> list[Tensor]:
    """The floating-point tensors in a module's output, in order."""
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _recorder(calls: list[ModuleCall], anchor: Tensor) -> Callable[[nn.Module, tuple, dict, object], object]:
    def hook(module: nn.Module, arguments: tuple, keywords: dict, output: object) -> object:
        leaves, structure = tree_flatten(output)
        leaves = [_graph_root_if_needed(leaf, anchor) for leaf in leaves]
        tensors = floating_tensors(leaves)
        call = ModuleCall(arguments, keywords, [tensor.detach() for tensor in tensors], _versions(arguments, keywords))
        for index, tensor in enumerate(tensors):
            if tensor.requires_grad:
                tensor.register_hook(_delta_keeper(call, index))
        calls.append(call)
        return tree_unflatten(leaves, structure)

    return hook


def _delta_keeper(call: ModuleCall, index: int) -> Callable[[Tensor], None]:
    def keep(delta: Tensor) -> None:
        call.deltas[-1][index] = delta

    return keep


def _graph_root_if_needed(leaf: object, anchor: Tensor) -> object:
    if isinstance(leaf, Tensor) and leaf.is_floating_point() and not leaf.requires_grad:
        return _GraphRoot.apply(leaf, anchor)
    return leaf


def _versions(arguments: tuple, keywords: dict) -> list[int]:
    return [leaf._version for leaf in tree_flatten((arguments, keywords))[0] if isinstance(leaf, Tensor)]
