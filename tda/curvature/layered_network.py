"""A batch's loss differentiated along many directions at once, for networks that are a row of known layers."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.curvature.pooled_convolution import PooledConvolution
from tda.curvature.tangent_layers import Activation, Convolution, Layer, Linear, Reshaping, Values
from tda.curvature.weighted_batch import WeightedBatch
from tda.models.model_state import trained_parameters


def layers_of(model: nn.Module) -> list[Callable[[], Layer]] | None:
    """Makers of the rules of a network's layers; None unless it is a Sequential of layers that have rules, all of them trained.

    Rules are bound to a batch, so that each batch makes its own. The numbers that a network's rules give are checked nowhere at
    run time: a layer has one only if it is of exactly the known class, without hooks.
    """
    trained = trained_parameters(model)
    if type(model) is not nn.Sequential or len(trained) != len(list(model.parameters())) or _has_hooks(model):
        return None
    modules = list(_leaves(model, ""))
    if len(trained) < sum(len(list(module.parameters())) for _, module in modules):
        return None
    makers, position = [], 0
    while position < len(modules):
        maker, taken = _maker(modules[position : position + 3])
        if maker is None:
            return None
        makers.append(maker)
        position += taken
    return makers


class LayeredBatch:
    """One weighted batch: the sum of its losses with its gradient, and derivatives along directions."""

    def __init__(self, makers: list[Callable[[], Layer]], batch: WeightedBatch) -> None:
        """makers: of the network's layers, as layers_of gives them."""
        # One memory format: convolutions of many tangents copy what comes in another.
        self.values = {name: value.contiguous() for name, value in batch.values.items()}
        self.layers, self._batch = [make() for make in makers], batch
        below = False
        for layer in self.layers:
            layer.moves = below
            below = below or not isinstance(layer, Activation | Reshaping)
        activation = batch.inputs.contiguous()
        for layer in self.layers:
            activation = layer.forward(activation, self.values)
        self.logits = activation
        self.slope = -batch.objective.residuals(activation, batch.labels)
        self.gradient: Values = {} if batch.gradient is None else batch.gradient
        downwards: Tensor | None = self.slope * batch.factors[:, None]
        for layer in reversed(self.layers):
            if downwards is not None:
                downwards = layer.backward(downwards, self.values, self.gradient if batch.gradient is None else None)

    def products(self, tangents: Values) -> tuple[Values, Tensor]:
        """Along tangents (k, *shape): the gradient's derivatives (k, *shape), and those of the examples' losses (k, b)."""
        change: Tensor | None = None
        for layer in self.layers:
            change = layer.tangent_forward(change, self.values, tangents)
        of_losses = (change * self.slope).sum(dim=2)
        (k, b), batch = change.shape[:2], self._batch
        curved = batch.objective.curved(
            self.logits.expand(k, *self.logits.shape).flatten(0, 1), batch.labels.repeat(k), change.flatten(0, 1)
        )
        change = curved.unflatten(0, (k, b)) * batch.factors[:, None]
        products: Values = {}
        for layer in reversed(self.layers):
            if change is not None:
                change = layer.tangent_backward(change, self.values, tangents, products)
        return products, of_losses

    def example_gradients(self) -> Values:
        """The gradient of each example's term of the sum: (b, *shape) by parameter."""
        gradients: Values = {}
        for layer in self.layers:
            layer.example_gradients(gradients)
        return gradients


def _has_hooks(model: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def _leaves(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    # named_children() leaves a module out that comes again.
    for name, child in module._modules.items():
        if type(child) is nn.Sequential:
            yield from _leaves(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _maker(modules: list[tuple[str, nn.Module]]) -> tuple[Callable[[], Layer] | None, int]:
    """The maker of the first module's rule, or of the first three's, and how many it is of."""
    (name, module), *following = modules
    if len(following) == 2 and _is_plain_convolution(module):
        (_, second), (_, third) = following
        if (
            type(second) in _SLOPES
            and _is_known_activation(second)
            and type(third) is nn.MaxPool2d
            and not third.return_indices
        ):
            return lambda: PooledConvolution(_convolution(name, module), _activation(second), _window(third)), 3
    if type(module) is nn.Linear:
        return lambda: Linear(f"{name}.weight", _bias_name(name, module)), 1
    if _is_plain_convolution(module):
        return lambda: _convolution(name, module), 1
    if _is_known_activation(module):
        return lambda: _activation(module), 1
    if type(module) in (nn.AvgPool2d, nn.Identity) or _flattens(module):
        return lambda: Reshaping(module), 1
    return None, 1


def _is_plain_convolution(module: nn.Module) -> bool:
    plain = type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros"
    return plain and not isinstance(module.padding, str)


def _is_known_activation(module: nn.Module) -> bool:
    return type(module) in _SLOPES and getattr(module, "approximate", "none") == "none"


def _flattens(module: nn.Module) -> bool:
    return type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)


def _bias_name(name: str, module: nn.Module) -> str | None:
    return None if module.bias is None else f"{name}.bias"


def _convolution(name: str, module: nn.Conv2d) -> Convolution:
    geometry = (module.kernel_size, module.stride, module.padding, module.dilation)
    return Convolution(f"{name}.weight", _bias_name(name, module), *geometry)


def _activation(module: nn.Module) -> Activation:
    return Activation(functional.relu if type(module) is nn.ReLU else module.forward, _SLOPES[type(module)])


def _window(module: nn.MaxPool2d) -> dict:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return {name: getattr(module, name) for name in names}


def _slopes_of_gelu(inputs: Tensor) -> tuple[Tensor, Tensor]:
    density = (inputs.square() * -0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    share = torch.special.ndtr(inputs)
    return share.addcmul_(inputs, density), density * (2 - inputs.square())


def _slopes_of_tanh(inputs: Tensor) -> tuple[Tensor, Tensor]:
    value = inputs.tanh()
    first = 1 - value.square()
    return first, -2 * value * first


_SLOPES = {
    nn.GELU: _slopes_of_gelu,
    nn.ReLU: lambda inputs: ((inputs > 0).to(inputs), None),
    nn.Tanh: _slopes_of_tanh,
}
