"""What a device may be called, told without torch, for steps that compute on none but take the argument like every other."""

import re

from tda.system.errors import UserError

_KNOWN = re.compile(r"auto|cpu|(cuda|mps|xpu)(:\d+)?")


def check_device_name(name: str) -> None:
    """Raise UserError unless the name is one that a device can have."""
    if not _KNOWN.fullmatch(name):
        raise UserError(f"device {name!r} is none; use --device cpu, cuda or auto")
