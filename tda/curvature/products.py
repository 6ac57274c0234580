"""Products of a loss's Hessian, or its Gauss-Newton matrix, with many vectors at once.

Vectors are rows of a (k, p) matrix, p the trained parameters laid end to end in the order of `trained_parameters`.
The forward pass is shared by all vectors; only tangents are computed k times. A model in 16 bits is computed in float32.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.curvature.batch_derivatives import Differentiator
from tda.curvature.weighted_batch import WeightedBatch
from tda.data.splits import Split
from tda.gradients.activation_memory import activation_bytes, fitting
from tda.gradients.objectives import Objective
from tda.gradients.single_precision import in_single_precision, single_precision, without_autocast
from tda.models.model_state import trained_parameters
from tda.system.inputs import Inputs, call
from tda.system.padding import in_groups

Products = Callable[[Tensor], Tensor]

# Tangents of this many vectors at a time bound the memory of a product.
_VECTORS_AT_ONCE = 32

# Of a gradient's graph that a product with one vector holds.
_GRAPH_BYTES = 2**32


def flatten(tensors: dict[str, Tensor]) -> Tensor:
    """Lay named tensors (k, *shape) end to end: (k, p)."""
    return torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors.values()], dim=1)


def unflatten(vectors: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Cut (k, p) into tensors (k, *shape) named and shaped like the trained parameters."""
    shapes = {name: parameter.shape for name, parameter in trained_parameters(model).items()}
    pieces = vectors.split([shape.numel() for shape in shapes.values()], dim=1)
    return {name: piece.reshape(len(piece), *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def hessian_products(model: nn.Module, objective: Objective, split: Split, activation_budget: int | None = None) -> Products:
    """The map from vectors (k, p) to H v (k, p), H the Hessian of the mean loss over the examples.

    Where torch cannot take a layer's derivatives in forward mode, they are taken in reverse mode, one vector after another.
    activation_budget: bytes that the passes of the vectors at once keep, by default those of all passes; more only where one
    vector's does.
    """
    model, split = _precise(model, split)
    parameters = _detached(model)
    differentiate = Differentiator(model)
    if differentiate.layered and isinstance(split.inputs, Tensor):
        factors = torch.full((len(split),), 1 / len(split), dtype=torch.float64).to(next(iter(parameters.values())))
        batch = WeightedBatch(objective, split.inputs, split.labels, factors, parameters, gradient={})
        return partial(_layered_products, differentiate, batch, model, activation_budget)

    def mean_loss(values: dict[str, Tensor]) -> Tensor:
        return _mean_loss(model, objective, split, values)

    def product(vector: dict[str, Tensor]) -> dict[str, Tensor]:
        return jvp(grad(mean_loss), (parameters,), (vector,))[1]

    forwards: Products | None = _over_rows(model, split, product, activation_budget)

    def products(vectors: Tensor) -> Tensor:
        nonlocal forwards
        if forwards is not None:
            try:
                return forwards(vectors)
            except RuntimeError as error:
                # Not every layer has forward-mode derivatives, or a rule for vmap; by reverse mode alone it takes longer.
                if "memory" in str(error):
                    raise
                forwards = None
        backwards = hessian_product(model, objective, split, activation_budget)
        return torch.cat([backwards(vector[None]) for vector in vectors])

    return products


def hessian_product(model: nn.Module, objective: Objective, split: Split, activation_budget: int | None = None) -> Products:
    """The map from one vector (1, p) to H v (1, p), by reverse-mode derivatives alone.

    The gradient's graph is built once and held, which makes a product cheaper than that of hessian_products, and several
    threads may work beside each other, which forward-mode derivatives do not allow. Where the graph of all examples is larger
    than activation_budget bytes, 4 GiB by default, each product builds the graphs of parts of them, one after another.
    """
    model, split = _precise(model, split)
    parameters = {name: value.requires_grad_() for name, value in _detached(model).items()}
    # The graph holds what both passes keep: about twice the activations for either.
    at_once = fitting(4 * activation_bytes(model, split.inputs), len(split), activation_budget or _GRAPH_BYTES)

    def graph(inputs: Inputs, labels: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            loss = _mean_loss(model, objective, replace(split, inputs=inputs, labels=labels), parameters)
            return torch.autograd.grad(loss, list(parameters.values()), create_graph=True, materialize_grads=True)

    def along(gradient: Sequence[Tensor], vector: Tensor, held: bool) -> Tensor:
        pieces = [piece[0] for piece in unflatten(vector, model).values()]
        curved = [position for position, piece in enumerate(gradient) if piece.requires_grad]
        outputs, directions = [gradient[position] for position in curved], [pieces[position] for position in curved]
        options = {"retain_graph": held, "materialize_grads": True}
        found = torch.autograd.grad(outputs, list(parameters.values()), directions, **options)
        return torch.cat([piece.flatten() for piece in found])[None]

    if at_once == len(split):
        gradient = graph(split.inputs, split.labels)
        return lambda vector: along(gradient, vector, held=True)

    def summed(vector: Tensor) -> Tensor:
        total = torch.zeros_like(vector)
        for inputs, labels in split.batches(at_once):
            for _, texts, of_texts in in_groups(model, inputs, labels) or [(None, inputs, labels)]:
                total += along(graph(texts, of_texts), vector, held=False) * (len(of_texts) / len(split))
        return total

    return summed


def gauss_newton_products(
    model: nn.Module, objective: Objective, split: Split, activation_budget: int | None = None
) -> Products:
    """The map from vectors (k, p) to G v (k, p), G = mean of J^T C J, J the Jacobian of the logits, C the loss's curvature.

    It is the Hessian without the curvature of the network itself, positive semi-definite (Schraudolph 2002; Martens 2020).
    activation_budget: as of hessian_products.
    """
    model, split = _precise(model, split)
    parameters = _detached(model)

    def logits_of(values: dict[str, Tensor]) -> Tensor:
        with _differentiable_twice(split.device):
            return call(model, split.inputs, values)

    logits, pull_back = vjp(logits_of, parameters)
    logits = logits.detach()

    def product(vector: dict[str, Tensor]) -> dict[str, Tensor]:
        change = jvp(logits_of, (parameters,), (vector,))[1]
        return pull_back(objective.curved(logits, split.labels, change) / len(split))[0]

    return _over_rows(model, split, product, activation_budget)


def products_in_parts(
    products: Callable[..., Products], model: nn.Module, objective: Objective, split: Split, budget: int
) -> Products:
    """hessian_products or gauss_newton_products, as sums over parts of the examples whose passes fit a budget of bytes."""
    # A pass keeps activations, and as much again for its derivatives and for each vector's tangents.
    at_once = max(1, budget // (4 * max(1, activation_bytes(model, split.inputs))))

    def apply(vectors: Tensor) -> Tensor:
        total = torch.zeros_like(vectors)
        for start in range(0, len(split), at_once):
            part = split[start : start + at_once]
            total += products(model, objective, part, budget // 4)(vectors) * (len(part) / len(split))
        return total

    return apply


def _layered_products(
    differentiate: Differentiator, batch: WeightedBatch, model: nn.Module, activation_budget: int | None, vectors: Tensor
) -> Tensor:
    # The pass is taken again for each call: what it keeps of every one of many batches would not fit the memory.
    derivatives = differentiate(batch)
    at_once = fitting(activation_bytes(model, batch.inputs) * len(batch.labels), derivatives.at_once, activation_budget)
    products = (derivatives.products(unflatten(rows, model))[0] for rows in vectors.split(at_once))
    return torch.cat([flatten({name: each[name] for name in batch.values}) for each in products])


def _mean_loss(model: nn.Module, objective: Objective, split: Split, values: dict[str, Tensor]) -> Tensor:
    with _differentiable_twice(split.device):
        return objective.loss(call(model, split.inputs, values), split.labels).mean()


@contextmanager
def _differentiable_twice(device: torch.device) -> Iterator[None]:
    """Forward passes without fused attention, which has neither second derivatives nor forward-mode ones, nor autocast."""
    with sdpa_kernel(SDPBackend.MATH), without_autocast(device):
        yield


def _precise(model: nn.Module, split: Split) -> tuple[nn.Module, Split]:
    return single_precision(model), replace(split, inputs=in_single_precision(split.inputs))


def _detached(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in trained_parameters(model).items()}


def _over_rows(
    model: nn.Module, split: Split, product: Callable[[dict[str, Tensor]], dict[str, Tensor]], activation_budget: int | None
) -> Products:
    mapped = vmap(product)
    at_once = fitting(activation_bytes(model, split.inputs) * len(split), _VECTORS_AT_ONCE, activation_budget)

    def apply(vectors: Tensor) -> Tensor:
        return torch.cat([flatten(mapped(unflatten(rows, model))).detach() for rows in vectors.split(at_once)])

    return apply
