"""Products of a loss's Hessian, or its Gauss-Newton matrix, with many vectors at once.

Vectors are rows of a (k, p) matrix, p the trained parameters laid end to end in the order of `trained_parameters`.
The forward pass is shared by all vectors; only tangents are computed k times.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.nn import functional

from tda.gradients.activation_memory import activation_bytes, fitting
from tda.models.model_state import trained_parameters

Products = Callable[[Tensor], Tensor]

# Tangents of this many vectors at a time bound the memory of a product.
_VECTORS_AT_ONCE = 32


def flatten(tensors: dict[str, Tensor]) -> Tensor:
    """Lay named tensors (k, *shape) end to end: (k, p)."""
    return torch.cat([tensor.flatten(1) for tensor in tensors.values()], dim=1)


def unflatten(vectors: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Cut (k, p) into tensors (k, *shape) named and shaped like the trained parameters."""
    shapes = {name: parameter.shape for name, parameter in trained_parameters(model).items()}
    pieces = vectors.split([shape.numel() for shape in shapes.values()], dim=1)
    return {name: piece.unflatten(1, shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def hessian_products(model: nn.Module, images: Tensor, labels: Tensor) -> Products:
    """The map from vectors (k, p) to H v (k, p), H the Hessian of the mean cross-entropy over the examples."""
    parameters = _detached(model)

    def mean_loss(values: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(functional_call(model, values, (images,)), labels)

    def product(vector: dict[str, Tensor]) -> dict[str, Tensor]:
        return jvp(grad(mean_loss), (parameters,), (vector,))[1]

    return _over_rows(model, images, product)


def hessian_product(model: nn.Module, images: Tensor, labels: Tensor) -> Products:
    """The map from one vector (1, p) to H v (1, p), by reverse-mode derivatives alone.

    The gradient's graph is built once and held, which makes a product cheaper than that of hessian_products, and several
    threads may work beside each other, which forward-mode derivatives do not allow.
    """
    parameters = {name: value.requires_grad_() for name, value in _detached(model).items()}
    with torch.enable_grad():
        loss = functional.cross_entropy(functional_call(model, parameters, (images,)), labels)
        gradient = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)

    def product(vector: Tensor) -> Tensor:
        pieces = [piece[0] for piece in unflatten(vector, model).values()]
        found = torch.autograd.grad(gradient, list(parameters.values()), pieces, retain_graph=True)
        return torch.cat([piece.flatten() for piece in found])[None]

    return product


def gauss_newton_products(model: nn.Module, images: Tensor, labels: Tensor) -> Products:
    """The map from vectors (k, p) to G v (k, p), G = mean of J^T (diag(p) - p p^T) J, J the Jacobian of the logits.

    It is the Hessian without the curvature of the network itself, positive semi-definite (Schraudolph 2002; Martens 2020).
    """
    parameters = _detached(model)

    def logits_of(values: dict[str, Tensor]) -> Tensor:
        return functional_call(model, values, (images,))

    logits, pull_back = vjp(logits_of, parameters)
    probabilities = logits.detach().softmax(dim=1)

    def product(vector: dict[str, Tensor]) -> dict[str, Tensor]:
        change = jvp(logits_of, (parameters,), (vector,))[1]
        weighted = probabilities * (change - (probabilities * change).sum(dim=1, keepdim=True))
        return pull_back(weighted / len(labels))[0]

    return _over_rows(model, images, product)


def _detached(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in trained_parameters(model).items()}


def _over_rows(model: nn.Module, images: Tensor, product: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Products:
    mapped = vmap(product)
    at_once = fitting(activation_bytes(model, images) * len(images), _VECTORS_AT_ONCE)

    def apply(vectors: Tensor) -> Tensor:
        return torch.cat([flatten(mapped(unflatten(rows, model))).detach() for rows in vectors.split(at_once)])

    return apply
