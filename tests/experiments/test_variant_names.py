"""One variant has one name, and what is no variant is refused."""

import pytest

from tda.experiments.variant_names import OPTIONS, options_of, variant_name
from tda.system.errors import UserError


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("", ""),
        ("plain", ""),
        ("pool,rate3e-4,inside1e-08", "inside1e-8_rate3e-4_pool"),
        ("decay_rate0.0003", "rate3e-4_decay"),
        ("rate0.010", "rate0.01"),
        ("rate.1", "rate0.1"),
        ("rate0.00012345", "rate1.2345e-4"),
        ("batch64,epochs20,clip2.50", "clip2.5_batch64_epochs20"),
        ("logits1", "logits1"),
        ("logits0.1_gelu", "gelu_logits0.1"),
    ],
)
def test_one_variant_has_one_name(written: str, name: str):
    assert variant_name(written) == name and variant_name(name) == name


def test_options_are_read_in_their_order():
    assert list(options_of("pool_batch8_rate0.5_inside1e-6").items()) == [
        ("inside", 1e-6),
        ("rate", 0.5),
        ("batch", 8),
        ("pool", None),
    ]
    assert isinstance(options_of("batch8")["batch"], int)


def test_every_number_is_read_as_it_was_meant():
    for number in (1 / 3, 1e-300, 123456.789, 1e22, 0.1 + 0.2, 5e-324):
        assert options_of(variant_name(f"rate{number!r}")) == {"rate": number}


def test_a_word_is_not_the_beginning_of_another():
    """Else a token could be read in two ways."""
    assert not any(other != word and other.startswith(word) for word in OPTIONS for other in OPTIONS)
    assert all(option.word == word and len(option.meaning) > 10 for word, option in OPTIONS.items())


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("smooth", "smooth is no option of a variant; options are inside<number>, momentum<number>, rate<number>, decay, "),
        ("Rate1", "Rate1 is no option"),
        ("shortcut", "shortcut is no option"),
        ("rate3e-4_pool_rate3e-4", "names rate twice"),
        ("plain_pool", "plain is no option"),
        ("decay3", "decay takes no number"),
        ("inside", "inside takes a positive number, as in inside1e-8"),
        ("rate-1", "rate takes a positive number, as in rate3e-4"),
        ("rate0", "rate takes a positive number"),
        ("rateinf", "rateinf is no option"),
        ("rate1e999", "rate takes a positive number"),
        ("rate1_0", "0 is no option"),
        ("batch2.5", "batch takes a positive whole number, as in batch64"),
        ("epochs0", "epochs takes a positive whole number"),
    ],
)
def test_what_is_no_variant_is_refused(variant: str, words: str):
    with pytest.raises(UserError, match=words):
        variant_name(variant)
