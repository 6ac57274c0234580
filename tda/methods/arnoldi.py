"""Influence functions in the span of the Hessian's dominant eigenvectors, found by Arnoldi's iteration (Schioppa et al. 2022).

g_train^T V diag(1 / l) V^T g_test, l and V the eigenvalues of largest magnitude, negative ones too, of the mean training loss's
Hessian on a Krylov space, and its eigenvectors there. What gradients have outside this span counts nothing: no damping is
needed, and an eigenvalue near 0 is never inverted, unless more are kept than the space holds dominant ones. As there, the
Hessian may be that of a part of the training examples.
"""

import torch
from torch import Tensor

from tda.curvature.inverses import times_vectors
from tda.curvature.products import Products, hessian_product, unflatten
from tda.curvature.symmetry import require_symmetric_hessian
from tda.data.splits import Split
from tda.methods.registry import Attribution, of_settings, per_member, register
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.random_streams import stream
from tda.training.members import Member


def _refuse(iterations: int, num_eigenvalues: int, hessian_examples: int) -> None:
    """Raise UserError for settings that mean nothing."""
    if hessian_examples < 0:
        raise UserError(f"the Hessian is that of 1 example at least, or of all by 0, not of {hessian_examples}")
    if not 1 <= num_eigenvalues <= iterations:
        raise UserError(f"of {iterations} iterations, 1 to {iterations} eigenvalues can be kept, not {num_eigenvalues}")


@register(
    "if_arnoldi",
    "IF (Arnoldi)",
    "Schioppa et al. 2022",
    check=of_settings(_refuse),
    iterations=20,
    num_eigenvalues=10,
    hessian_examples=0,
)
@per_member
def arnoldi_influence(
    member: Member, train: Split, test: Split, iterations: int, num_eigenvalues: int, hessian_examples: int
) -> Attribution:
    """Influence of each training example on each test loss; the report holds the eigenvalues and their residuals.

    iterations: products with the Hessian; num_eigenvalues: how many of the eigenvalues are kept; hessian_examples: of how many
    training examples, drawn from the member's seed, the Hessian is taken, of all for 0; a product costs as many passes. The
    first vector is drawn from the member's seed too. Raises UserError unless 1 <= num_eigenvalues <= iterations, and for
    more examples than there are.
    """
    _refuse(iterations, num_eigenvalues, hessian_examples)
    budget = member.study.memory_budget
    curved = _drawn(train, hessian_examples, member.seed)
    require_symmetric_hessian(member.model, curved)
    product = hessian_product(member.model, member.objective, curved, budget and budget // 2)
    first = next(iter(trained_parameters(member.model).values()))
    size = sum(parameter.numel() for parameter in trained_parameters(member.model).values())
    start = torch.randn(1, size, generator=stream(member.seed, "arnoldi start")).to(first)
    values, vectors, residuals = dominant_eigenpairs(product, start, iterations, num_eigenvalues)
    directions = unflatten(vectors, member.model)
    left, right = (times_vectors(member.model, member.objective.loss, split, directions).double() for split in (train, test))
    report = {"eigenvalues": values.tolist(), "relative_residuals": residuals.tolist()}
    return Attribution(((left / values[:, None]).T @ right).float(), report)


def _drawn(train: Split, count: int, seed: int) -> Split:
    """As many training examples, in their order."""
    if count > len(train):
        raise UserError(f"the Hessian of {count} examples cannot be taken: there are {len(train)} training examples")
    if count == 0:
        return train
    return train[torch.randperm(len(train), generator=stream(seed, "arnoldi examples"))[:count].sort().values]


def dominant_eigenpairs(product: Products, start: Tensor, iterations: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ritz pairs of largest magnitude of a symmetric operator on (1, p): values (k,) float64, vectors (k, p), residuals (k,).

    A residual is |H v - l v| / |l|. k is at most count, and smaller where the Krylov space ends early.
    """
    basis = [start / start.norm()]
    projected = torch.zeros(iterations + 1, iterations, dtype=torch.float64, device=start.device)
    for step in range(iterations):
        spanned = torch.cat(basis)
        image = product(basis[-1])
        scale = image.norm()
        # The second pass takes away what rounding left of the first.
        for _ in range(2):
            overlaps = spanned @ image[0]
            image = image - overlaps @ spanned
            projected[: step + 1, step] += overlaps.double()
        length = image.norm()
        projected[step + 1, step] = length
        if length <= 10 * torch.finfo(start.dtype).eps * scale:
            break
        basis.append(image / length)
    steps = step + 1
    symmetric = (projected[:steps, :steps] + projected[:steps, :steps].T) / 2
    values, coordinates = torch.linalg.eigh(symmetric)
    chosen = values.abs().argsort(descending=True)[:count]
    values, coordinates = values[chosen], coordinates[:, chosen]
    residuals = (projected[steps, steps - 1] * coordinates[-1]).abs() / values.abs()
    return values, coordinates.T.to(start.dtype) @ torch.cat(basis[:steps]), residuals
