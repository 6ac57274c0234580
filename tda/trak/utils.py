"""Helpers by the names of the package `trak`, for programs that import them."""

import tempfile
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from tda.trak.refusals import AssertedError, MeaninglessNameError

_LARGEST = np.iinfo(np.uint32).max
"""Numbers that trak's compiled extension could index."""


def test_install(use_fast_jl: bool = False) -> str:
    """Featurize twenty random examples and say that it worked; use_fast_jl: without effect, nothing is compiled here."""
    from tda.trak.traker import TRAKer

    model = nn.Linear(256, 2, bias=False)
    batch = (torch.randn(20, 256), torch.randint(2, (20,)))
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(model, "image_classification", train_set_size=20, save_dir=folder, proj_dim=512, logging_level=100)
        traker.load_checkpoint(model.state_dict(), model_id=0)
        traker.featurize(batch, num_samples=20)
    return "tda.trak is installed correctly"


# Named as trak's; it is no test of a test run's.
test_install.__test__ = False


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters end to end (p,), whatever their memory layout."""
    return torch.cat([parameter.reshape(-1) for parameter in parameters])


def get_num_params(model: nn.Module) -> int:
    """How many numbers a model's parameters hold."""
    return sum(parameter.numel() for parameter in model.parameters())


def is_not_buffer(ind: object, params_dict: dict) -> bool:
    """Whether the name params_dict[ind] is not one of a batch normalisation's statistics."""
    return not any(name in params_dict[ind] for name in ("running_mean", "running_var", "num_batches_tracked"))


def vectorize(g: dict[str, Tensor], arr: Tensor | None = None, device: str | torch.device | None = None) -> Tensor:
    """Gradients by name, (n, *shape) each, end to end (n, p), in `arr` where it is given; by default on their device."""
    parts = [part.detach().reshape(len(part), -1) for part in g.values()]
    if len({len(part) for part in parts}) != 1:
        raise AssertedError("the gradients to be put end to end are of different numbers of examples")
    flat = torch.cat(parts, dim=1)
    if arr is not None:
        arr[:, : flat.shape[1]] = flat.to(arr.device)
        return arr
    return flat if device is None else flat.to(device)


def get_output_memory(features: Tensor, target_grads: Tensor, target_dtype: torch.dtype) -> int:
    """Bytes of the scores of features (n, d) and targets (m, d)."""
    return len(features) * len(target_grads) * target_dtype.itemsize


def get_free_memory(device: str | torch.device) -> int:
    """Bytes that PyTorch holds on a GPU without using them; elsewhere there is no such number, which is refused."""
    if torch.device(device).type != "cuda":
        raise MeaninglessNameError(f"get_free_memory tells what PyTorch holds on a GPU; {device} is none")
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def get_matrix_mult_standard(features: Tensor, target_grads: Tensor, target_dtype: torch.dtype) -> Tensor:
    """features (n, d) times the transpose of target_grads (m, d): (n, m)."""
    return (features @ target_grads.T).to(target_dtype)


def get_matrix_mult_blockwise(features: Tensor, target_grads: Tensor, target_dtype: torch.dtype, bs: int) -> Tensor:
    """The same `bs` rows at a time, on the CPU."""
    blocks = [get_matrix_mult_standard(rows, target_grads.to(rows), target_dtype).cpu() for rows in features.split(bs)]
    return torch.cat(blocks)


def get_matrix_mult(
    features: Tensor,
    target_grads: Tensor,
    target_dtype: torch.dtype | None = None,
    batch_size: int = 8096,
    use_blockwise: bool = False,
) -> Tensor:
    """The same; use_blockwise: in blocks of batch_size rows, whose product is on the CPU."""
    target_dtype = target_dtype or features.dtype
    if use_blockwise:
        return get_matrix_mult_blockwise(features, target_grads, target_dtype, batch_size)
    return get_matrix_mult_standard(features, target_grads, target_dtype)


def get_parameter_chunk_sizes(model: nn.Module, batch_size: int) -> tuple[int, list[int]]:
    """How many numbers of a gradient trak's extension projects at once for so many examples, and in which chunks.

    Consecutive parameters share a chunk as long as it stays below that number.
    """
    largest, chunks = _LARGEST // batch_size, [0]
    for parameter in model.parameters():
        if chunks[-1] + parameter.numel() >= largest:
            chunks.append(0)
        chunks[-1] += parameter.numel()
    return largest, [size for size in chunks if size]
