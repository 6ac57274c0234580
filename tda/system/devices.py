"""Which device computes, with how many workers, and how the process's memory behaves."""

import ctypes
import resource
import sys

import torch

from tda.system.errors import UserError

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
    """Settings of the whole process that the speed of small networks on a CPU hangs on; call it before anything is computed.

    Denormal numbers count as zero: tails of GELU and gradients of confident predictions are full of them, and they slow
    Hessian products ten times. glibc keeps large freed blocks instead of returning them to the system: activations
    of a few MB are otherwise mapped and page-faulted anew at every layer, which costs three to seven times their arithmetic.
    """
    torch.set_flush_denormal(True)
    if sys.platform == "linux":
        c_library = ctypes.CDLL(None)
        if hasattr(c_library, "mallopt"):
            c_library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            c_library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def image_format(device: torch.device) -> torch.memory_format:
    """Memory format in which small convolutions run fastest on the device."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format
