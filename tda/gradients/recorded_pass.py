"""One forward and backward pass that collects what goes into chosen modules and the gradients of what comes out.

No gradient of those modules' own parameters is computed on the way, nor the gradient of the first chosen module's input. Where
the model uses such a parameter outside its module's calls, or a further parameter that is watched, the pass says so.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from tda.gradients.evaluation_mode import evaluation
from tda.gradients.quantities import Quantity
from tda.system.inputs import Inputs, call, count_of, device_of


@dataclass
class ModuleCall:
    """One call of a module in a pass over n examples.

    arguments, keywords: what went in; inputs: the tensors among it, in order; versions: how often each of these had been
    overwritten by then; outputs: the floating-point tensors that came out; deltas[r][i]: the gradient of quantity r, summed
    over the examples, with respect to outputs[i], absent where the output has no effect.
    """

    arguments: tuple
    keywords: dict
    inputs: list[Tensor]
    versions: list[int]
    outputs: list[Tensor]
    deltas: list[dict[int, Tensor]] = field(default_factory=list)

    def input_is_intact(self) -> bool:
        """Whether no later operation has overwritten the tensors that went in."""
        return self.versions == [tensor._version for tensor in self.inputs]

    def delta(self, quantity: int, output: int = 0) -> Tensor:
        """Gradient of one quantity with respect to one output, zero where there is no effect."""
        found = self.deltas[quantity].get(output)
        return torch.zeros_like(self.outputs[output]) if found is None else found


def module_call(arguments: tuple, keywords: dict, outputs: list[Tensor]) -> ModuleCall:
    """A call as it stands just after it."""
    inputs = _tensors((arguments, keywords))
    return ModuleCall(arguments, keywords, inputs, [tensor._version for tensor in inputs], outputs)


@dataclass(frozen=True)
class Recording:
    """What a pass over n examples collects.

    calls: of each chosen module, in order; values: the quantities (n, R), detached; outside: parameter name -> gradient of each
    quantity, summed over the examples, for watched parameters that the pass used outside of the calls that account for them.
    """

    calls: dict[nn.Module, list[ModuleCall]]
    values: Tensor
    outside: dict[str, list[Tensor]]


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


class _Passed(torch.autograd.Function):
    """A view as a tensor of its own, without a copy: what overwrites a view takes the view's place in the graph."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, output: Tensor) -> Tensor:
        return output.detach()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, delta: Tensor) -> Tensor:
        return delta


def record_calls(
    model: nn.Module,
    modules: Mapping[nn.Module, Collection[nn.Parameter]],
    inputs: Inputs,
    labels: Tensor,
    quantity: Quantity,
    watched: Mapping[str, nn.Parameter] | None = None,
    spread: Collection[nn.Module] = (),
) -> Recording:
    """Run the model in evaluation mode over n examples' inputs and labels and record every call of the modules.

    modules: each with the parameters that its calls account for; watched: parameters by name; spread: modules of which what
    one call puts out for all examples is laid out for each of them, so that each has an output gradient of its own.
    """
    calls, watched = {module: [] for module in modules}, watched or {}
    anchor = torch.zeros((), device=device_of(inputs), requires_grad=True)
    with ExitStack() as stack:
        stack.enter_context(evaluation(model, differentiable=watched))
        for module, own in modules.items():
            before = module.register_forward_pre_hook(_switch_off(own), prepend=True)
            times = count_of(inputs) if module in spread else 1
            after = module.register_forward_hook(_recorder(calls[module], own, anchor, times), with_kwargs=True)
            stack.callback(before.remove)
            stack.callback(after.remove)
        values = quantity(call(model, inputs), labels)
        values = values.reshape(count_of(inputs), -1)
        # A checkpoint computes its part again during the backward pass: the same calls, not further ones.
        calls = {module: recorded.copy() for module, recorded in calls.items()}
        parameters = list(watched.values())
        outside: dict[str, list[Tensor]] = {}
        for r in range(values.shape[1]):
            for module_call in (module_call for recorded in calls.values() for module_call in recorded):
                module_call.deltas.append({})
            if values.requires_grad:
                last = r + 1 == values.shape[1]
                total = values[:, r].sum()
                _, *found = torch.autograd.grad(total, [anchor, *parameters], retain_graph=not last, allow_unused=True)
                _collect(outside, r, watched, found)
    return Recording(calls, values.detach(), outside)


def floating_tensors(output: object) -> list[Tensor]:
    """The floating-point tensors in a module's output, in order."""
    return [leaf for leaf in _tensors(output) if leaf.is_floating_point()]


def _collect(
    outside: dict[str, list[Tensor]], quantity: int, watched: Mapping[str, nn.Parameter], found: list[Tensor | None]
) -> None:
    for (name, parameter), gradient in zip(watched.items(), found, strict=True):
        if gradient is not None or name in outside:
            missing = quantity - len(outside.setdefault(name, []))
            gradient = torch.zeros_like(parameter) if gradient is None else gradient.detach().to_dense()
            outside[name] += [torch.zeros_like(parameter) for _ in range(missing)] + [gradient]


def _switch_off(parameters: Collection[nn.Parameter]) -> Callable[[nn.Module, tuple], None]:
    """A hook after which a module's own use of the parameters leaves no trace in the graph."""

    def hook(module: nn.Module, arguments: tuple) -> None:
        for parameter in parameters:
            parameter.requires_grad_(False)

    return hook


def _recorder(
    calls: list[ModuleCall], parameters: Collection[nn.Parameter], anchor: Tensor, times: int
) -> Callable[[nn.Module, tuple, dict, object], object]:
    watched = [parameter for parameter in parameters if parameter.requires_grad]

    def hook(module: nn.Module, arguments: tuple, keywords: dict, output: object) -> object:
        if times > 1:
            arguments, output = tuple(map(_laid_out(times), arguments)), _laid_out(times)(output)
        leaves, structure = ([output], None) if isinstance(output, Tensor) else tree_flatten(output)
        leaves = [_in_graph(leaf, anchor) for leaf in leaves]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        call = module_call(arguments, keywords, [tensor.detach() for tensor in tensors])
        for index, tensor in enumerate(tensors):
            if tensor.requires_grad:
                tensor.register_hook(_delta_keeper(call, index))
        calls.append(call)
        for parameter in watched:
            parameter.requires_grad_()
        return leaves[0] if structure is None else tree_unflatten(leaves, structure)

    return hook


def _laid_out(times: int) -> Callable[[object], object]:
    """A function that repeats a tensor (1, ...) for each of so many examples, without a copy, and leaves others alone."""

    def of(part: object) -> object:
        is_one = isinstance(part, Tensor) and part.dim() > 0 and len(part) == 1
        return part.expand(times, *part.shape[1:]) if is_one else part

    return of


def _delta_keeper(call: ModuleCall, index: int) -> Callable[[Tensor], None]:
    def keep(delta: Tensor) -> None:
        # A model that differentiates on its way calls this before any quantity is differentiated.
        if call.deltas:
            call.deltas[-1][index] = delta

    return keep


def _in_graph(leaf: object, anchor: Tensor) -> object:
    """A tensor whose gradient can be taken, whatever the operation that follows does to it."""
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return leaf
    if not leaf.requires_grad:
        return _GraphRoot.apply(leaf, anchor)
    return _Passed.apply(leaf) if leaf._is_view() else leaf


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
