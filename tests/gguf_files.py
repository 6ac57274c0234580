"""A tiny Llama in a GGUF file, as converters write it: its queries and keys laid out for another way of rotating."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

LAYERS, WIDTH, HEADS, KEYS, HIDDEN = 2, 32, 4, 2, 64
WORDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "c", "Ġ", "ab", "Ġa", "1", "2"]
MERGES = ["a b", "Ġ a"]

_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def tiny_llama() -> nn.Module:
    """With tied words and fewer heads of keys than of queries."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "intermediate_size": HIDDEN, "num_attention_heads": HEADS}
    config = LlamaConfig(**sizes, num_key_value_heads=KEYS, vocab_size=len(WORDS), tie_word_embeddings=True)
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def write_gguf(path: Path, model: nn.Module) -> None:
    """The model's weights, in float32, with a tokenizer of SmolLM2's kind."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(MERGES)
    for name, number in (("bos", 1), ("eos", 2), ("unk", 0), ("pad", 2)):
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_tensor("token_embd.weight", _array(model.model.embed_tokens.weight))
    writer.add_tensor("output_norm.weight", _array(model.model.norm.weight))
    for number, layer in enumerate(model.model.layers):
        for name, own in _NAMES.items():
            weight = layer.get_submodule(own).weight
            heads = {"attn_q": HEADS, "attn_k": KEYS}.get(name)
            if heads:
                weight = weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
            writer.add_tensor(f"blk.{number}.{name}.weight", _array(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _array(weight: Tensor) -> np.ndarray:
    return weight.detach().contiguous().numpy()
