"""Small models of transformers and torchvision, as users bring them, against gradients of single examples."""

import copy

import pytest
import torch
from single_examples import assert_close, assert_gradients_are_those_alone, gradients_alone, labels_of
from torch import Tensor, nn

from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.layer_rows import has_formula
from tda.gradients.quantities import margin

TOKENS = 40
SIZES = {"vocab_size": TOKENS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}

pytestmark = pytest.mark.filterwarnings("ignore")


def made(build, config: object) -> nn.Module:
    """A model with parameters that are all far from zero, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(config).double().eval()
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def texts(count: int = 9, length: int = 7) -> dict[str, Tensor]:
    """Token ids and masks, padded; no token types."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(length) < torch.randint(3, length + 1, (count, 1), generator=generator)).long()
    return {"input_ids": torch.randint(3, TOKENS, (count, length), generator=generator) * mask, "attention_mask": mask}


def sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Two quantities of logits of any shape."""
    flat = logits.reshape(len(logits), -1)
    return torch.stack([flat.square().sum(1) / 100 + flat[:, 0] * labels, flat[:, -1].exp()], dim=1)


def covered(plan) -> set[str]:
    return {name for layer in plan.layers for name in layer.parameters.values()}


def test_a_text_classifier_without_token_types() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    model = made(BertForSequenceClassification, BertConfig(**SIZES, max_position_embeddings=16, num_labels=3))
    plan = assert_gradients_are_those_alone(model, texts(), quantities=(margin, sums))
    assert not plan.whole_model and covered(plan) == set(plan.shapes)


def test_a_causal_language_model_with_tied_words() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=TOKENS, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    plan = assert_gradients_are_those_alone(made(GPT2LMHeadModel, config), texts(), quantities=(sums,))
    # Words that the last layer shares, places of all examples, and layers whose weight is turned: all have formulas.
    assert not plan.whole_model and covered(plan) == set(plan.shapes)
    assert all(has_formula(layer) for layer in plan.layers)
    assert [type(layer.module).__name__ for layer in plan.layers if layer.spread] == ["Embedding"]
    assert [type(other).__name__ for layer in plan.layers for other in layer.others] == ["Linear"]


def test_a_sequence_to_sequence_model_layer_by_layer() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=TOKENS, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.1)
    config.decoder_start_token_id = config.pad_token_id = 0
    inputs = texts() | {"decoder_input_ids": texts(length=5)["input_ids"]}
    plan = assert_gradients_are_those_alone(made(T5ForConditionalGeneration, config), inputs, quantities=(sums,))
    # Its words are tied in three places; its relative positions go by the stacks.
    assert not plan.whole_model and covered(plan) == set(plan.shapes)
    assert [sorted(type(other).__name__ for other in layer.others) for layer in plan.layers if layer.others] == [
        ["Embedding", "Linear"]
    ]
    assert {type(layer.module).__name__ for layer in plan.layers if not layer.vectorized} == {"T5Stack"}
    linear = [layer for layer in plan.layers if isinstance(layer.module, nn.Linear)]
    assert len(linear) == 2 * (4 + 2) + 2 * (8 + 2)


def test_a_vision_transformer_and_one_with_windows() -> None:
    from transformers import SwinConfig, SwinForImageClassification, ViTConfig, ViTForImageClassification

    sizes = {name: size for name, size in SIZES.items() if name != "vocab_size"}
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = made(ViTForImageClassification, ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=3))
    assert not assert_gradients_are_those_alone(model, images, quantities=(margin,)).whole_model
    windows = {"depths": [1, 2], "num_heads": [1, 2], "window_size": 2, "embed_dim": 8}
    config = SwinConfig(image_size=8, patch_size=2, num_channels=1, num_labels=3, **windows)
    assert not assert_gradients_are_those_alone(
        made(SwinForImageClassification, config), images, quantities=(margin,)
    ).whole_model


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_networks_of_torchvision(name: str) -> None:
    import torchvision

    images = torch.randn(5, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = made(lambda classes: getattr(torchvision.models, name)(num_classes=classes), 3)
    plan = assert_gradients_are_those_alone(model, images, quantities=(margin,), block_size=2)
    assert not plan.whole_model and all(layer.vectorized for layer in plan.layers)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adapters_of_peft_on_a_base_of_16_bits(dtype: torch.dtype) -> None:
    import peft
    from transformers import LlamaConfig, LlamaForCausalLM

    base = made(LlamaForCausalLM, LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=16)).to(dtype)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype, torch.float32}
    inputs, exact = texts(), copy.deepcopy(model).double()
    labels = labels_of(inputs)
    kernel = gradient_kernel(model, (inputs, labels), (inputs, labels), sums)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    expected = gradients_alone(exact, inputs, labels, sums, names)
    assert kernel.cross.dtype == torch.float32
    assert_close(kernel.cross, expected @ expected.T, 1e-5)
