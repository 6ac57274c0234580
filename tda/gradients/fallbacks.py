"""Says in the log where gradients are computed in a slower way than layer by layer, and why: each thing once."""

import logging
from collections.abc import Iterable

logger = logging.getLogger("tda")

_said: set[str] = set()

_NAMES_SHOWN = 8


def report_fallback(names: Iterable[str], way: str, reason: str) -> None:
    """Log once that the gradients of the named parameters are computed in a way, for a reason."""
    names = list(names)
    shown = ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
    message = f"gradients of {shown}: {way} ({reason})"
    if message not in _said:
        _said.add(message)
        logger.warning("%s", message)
