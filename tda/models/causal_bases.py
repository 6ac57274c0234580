"""Causal language models of transformers that someone else trained: by hub name, or from a saved folder."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from tda.models.language_models import with_places_of_examples
from tda.models.vit_base import silence_transformers
from tda.system.errors import UserError, first_sentence


def causal_base(name: str) -> nn.Module:
    """The model in evaluation mode, float32, its parameters to be differentiated; loaded once per process, to be copied.

    Raises UserError if it cannot be had, lacks weights, or has some that are no finite numbers.
    """
    folder = Path(name)
    changed = max((path.stat().st_mtime_ns for path in folder.iterdir()), default=0) if folder.is_dir() else 0
    return _loaded(name, changed)


@lru_cache(maxsize=4)
def _loaded(name: str, changed: int) -> nn.Module:
    from transformers import AutoModelForCausalLM

    silence_transformers()
    local = Path(name).is_dir()
    try:
        # The attention that is written in torch's own operations: others have no derivative of every example.
        model, report = AutoModelForCausalLM.from_pretrained(
            name, local_files_only=local, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # transformers and the hub's client raise OSError, ValueError, KeyError and errors of their own
        reason = first_sentence(error)
        mend = "give a folder that save_pretrained wrote" + ("" if local else ", or run once with a network")
        raise UserError(f"base {name} cannot be loaded as a causal language model: {reason}; {mend}") from error
    if report["missing_keys"]:
        lacking = sorted(report["missing_keys"])[0]
        raise UserError(f"base {name} lacks the weights {lacking}; save it again by save_pretrained, or choose another base")
    for weights, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"base {name} holds NaN or infinity in {weights}; choose another base")
    model.config.use_cache = False
    # No causal model reads what stands behind a text.
    model.ignores_padding = True
    return with_places_of_examples(model).requires_grad_(True).eval()
