"""Which device computes, with how many workers, and how the process's memory behaves."""

import ctypes
import sys

import torch
from torch import nn

from tda.system.errors import UserError
from tda.system.group_norms import guard_group_norms

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is cuda where there is one, else the CPU. Raises UserError if it is absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name} cannot be used on this machine; use --device cpu or auto") from error
    return device


def prepare_process() -> None:
    """Settings of the whole process that speed on a CPU and precision on a GPU hang on; call it before anything is computed.

    Denormal numbers count as zero: tails of GELU and gradients of confident predictions are full of them, and they slow
    Hessian products ten times. glibc keeps large freed blocks instead of returning them to the system: activations
    of a few MB are otherwise mapped and page-faulted anew at every layer, which costs three to seven times their arithmetic.
    Products and convolutions on a GPU are in float32. Torch's default rounds the inputs of convolutions to TF32, ten bits,
    which scores would show, and NVIDIA's containers, by TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, those of all products.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_flush_denormal(True)
    if sys.platform == "linux":
        c_library = ctypes.CDLL(None)
        if hasattr(c_library, "mallopt"):
            c_library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            c_library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def device_name(device: torch.device) -> str:
    """What a record says of a device: a GPU's name, or how many threads the CPU computes with."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def image_format(device: torch.device) -> torch.memory_format:
    """Memory format in which small convolutions run fastest on the device."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, in the memory format in which small convolutions run fastest there."""
    guard_group_norms(model)
    return model.to(device=device, memory_format=image_format(device))
