"""What options do to plans and networks, and which are refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tda.data.tasks import task_named
from tda.experiments.variant_names import OPTIONS
from tda.gradients.representations import penultimate_representations
from tda.models.families import FAMILIES, family_named, new_model
from tda.models.fine_tuning import AdapterTuning
from tda.models.variants import ScaledLogits, family_of_variant
from tda.system.errors import UserError

DIGITS, COLOURS = task_named("digits3"), task_named("cifar10")


@pytest.mark.parametrize("name", FAMILIES)
def test_plain_experiment_is_the_family_itself(name: str):
    assert family_of_variant(family_named(name), DIGITS, "") is family_named(name)


def test_options_set_the_fields_of_the_plan():
    family = family_named("cnn")
    made = family_of_variant(family, DIGITS, "inside1e-8_rate3e-4_decay_clip2_batch64_epochs20").plan(DIGITS)
    assert made == replace(
        family.plan(DIGITS),
        adam_epsilon_inside=1e-8,
        learning_rate=3e-4,
        linear_decay=True,
        gradient_clipping=2.0,
        batch_size=64,
        epochs=20,
    )
    assert family_of_variant(family, DIGITS, "momentum0.9_rate0.01").plan(DIGITS).momentum == 0.9


def test_fewer_epochs_keep_no_early_ones_that_never_come():
    made = family_of_variant(family_named("mlp"), DIGITS, "epochs5").plan(DIGITS)
    assert made.early_epochs == (2, 3, 4) and made.kept_epochs == [5]


@pytest.mark.parametrize("task", [DIGITS, COLOURS])
def test_average_pooling_and_scaled_logits_are_those_of_the_formulas(task):
    """The same start as the plain network; pooling by means of 2 x 2, and the logits a tenth."""
    plain = new_model(family_named("cnn"), task, seed=1)
    model = new_model(family_of_variant(family_named("cnn"), task, "pool_logits0.1"), task, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    images = torch.randn(3, task.kind.channels, task.kind.size, task.kind.size)
    hidden = images
    for block in plain[0]:
        hidden = nn.functional.gelu(block[0](hidden))
        height, width = (size // 2 * 2 for size in hidden.shape[-2:])
        hidden = hidden[..., :height, :width].unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean(dim=(-1, -3))
    torch.testing.assert_close(model(images), 0.1 * plain[2](hidden.flatten(1)), rtol=1e-5, atol=1e-6)
    assert not any(isinstance(module, nn.MaxPool2d) for module in model.modules())
    # What goes into the classifier is still what goes into the last linear layer.
    expected = nn.functional.gelu(plain[2][0](hidden.flatten(1)))
    torch.testing.assert_close(penultimate_representations(model, images), expected, rtol=1e-5, atol=1e-6)


def test_smooth_activations_replace_rectified_units():
    model = new_model(family_of_variant(family_named("mlp"), DIGITS, "gelu"), DIGITS, seed=1)
    assert [type(module) for module in model] == [nn.Flatten, nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    residual = new_model(family_of_variant(family_named("resnet9"), COLOURS, "gelu_logits2"), COLOURS, seed=1)
    assert not any(isinstance(module, nn.ReLU) for module in residual.modules())
    assert isinstance(residual[-1], ScaledLogits) and residual[-1].factor == 2


def test_only_altered_networks_say_so_in_their_origin():
    family = family_named("cnn")
    assert family_of_variant(family, DIGITS, "inside1e-8").origin(DIGITS) == {}
    assert family_of_variant(family, DIGITS, "pool_logits0.1").origin(DIGITS) == {"altered": {"pool": None, "logits": 0.1}}


def test_choices_of_fine_tuning_go_together_with_a_variant():
    made = family_of_variant(family_named("vit"), DIGITS, "inside1e-8").with_choices(AdapterTuning("a base", rank=2))
    assert made.choices.rank == 2 and made.plan(DIGITS).adam_epsilon_inside == 1e-8 and made.plan(DIGITS).linear_decay
    assert made.with_choices(AdapterTuning(random_crop=True)).plan(DIGITS).adam_epsilon_inside == 1e-8


@pytest.mark.parametrize(
    ("model", "variant", "words"),
    [
        ("cnn", "gelu", "gelu does not fit --model cnn, a two-layer CNN; its options are inside, momentum, .*, pool, logits"),
        ("mlp", "pool", "pool does not fit --model mlp"),
        ("vit", "logits0.1", "logits does not fit --model vit"),
        ("cnn", "rate0.001", "rate1e-3 is how --model cnn trains on digits3 anyway; leave it out"),
        ("cnn", "batch32_pool", "batch32 is how --model cnn trains"),
        ("vit", "decay", "decay is how --model vit trains on digits3 anyway"),
        ("mlp", "momentum0.9", "momentum0.9 is how --model mlp trains"),
        ("mlp", "inside1e-8", "this plan trains by SGD with momentum"),
        ("cnn", "inside1e-8_momentum0.9_rate0.01", "this plan trains by SGD with momentum"),
        ("cnn", "momentum0.9", "needs a rate of its own, such as momentum0.9_rate0.01"),
    ],
)
def test_options_that_do_not_fit_are_refused(model: str, variant: str, words: str):
    with pytest.raises(UserError, match=words):
        family_of_variant(family_named(model), DIGITS, variant)


def test_every_option_fits_some_family():
    for word, option in OPTIONS.items():
        token = word if option.kind is None else f"{word}{'0.5' if option.kind is float else '7'}"
        token = f"{token}_rate0.5" if word == "momentum" else token
        made = []
        for family in FAMILIES.values():
            try:
                made.append(family_of_variant(family, DIGITS, token))
            except UserError:
                continue
        assert made and all(family is not family_named(family.name) for family in made)
