"""Embeddings of sentences by a pre-trained encoder: the mean of its vectors of their tokens (Reimers and Gurevych 2019)."""

from functools import lru_cache

import torch
from torch import Tensor

from tda.data.tokenizers import TextTokens, tokenizer_named
from tda.models.text_bases import encoder_named

LENGTH = 256
"""Tokens of a sentence that are read."""
_AT_ONCE = 32


@lru_cache(maxsize=8)
def sentence_embeddings(name: str, texts: tuple[str, ...]) -> Tensor:
    """Embeddings (n, width) float32 of texts by the encoder of this name, on the CPU.

    Raises UserError if the encoder or its tokenizer cannot be had.
    """
    encoder = encoder_named(name)
    length = min(LENGTH, getattr(encoder.config, "max_position_embeddings", LENGTH))
    tokens = TextTokens(lambda: tokenizer_named(name), length).encode(texts)
    sizes = tokens["attention_mask"].sum(dim=1)
    found = [torch.empty(0)] * len(texts)
    with torch.no_grad():
        # Texts of about one length together, so that little padding is computed.
        for positions in sizes.argsort(stable=True).split(_AT_ONCE):
            longest = int(sizes[positions].max())
            batch = {part: tokens[part][positions, :longest] for part in ("input_ids", "attention_mask")}
            mask = batch["attention_mask"][..., None].float()
            means = (encoder(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            for position, mean in zip(positions.tolist(), means, strict=True):
                found[position] = mean
    return torch.stack(found)
