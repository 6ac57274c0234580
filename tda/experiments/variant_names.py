"""Variants: the options of training that set an experiment apart from the plain one, and that its name ends in.

A variant is written as its options, joined by underscores or commas: `inside1e-8_rate3e-4_decay`. One variant has one name:
options stand in the order of OPTIONS, and a number is written in the shortest way. `plain`, or nothing, stands for the plain
experiment. What the options do to a family of models is in tda/models/variants.py.
"""

import math
import re
from dataclasses import dataclass

from tda.system.errors import UserError


@dataclass(frozen=True)
class Option:
    """A choice of training: its word, the kind of the number that follows, and what it does.

    kind: float or int for a positive number; None where no number follows.
    """

    word: str
    kind: type | None
    meaning: str


OPTIONS = {
    option.word: option
    for option in (
        Option("inside", float, "Adam's epsilon, placed inside the root: m_hat / sqrt(v_hat + epsilon)"),
        Option("momentum", float, "stochastic gradient descent with this momentum, in place of Adam or another momentum"),
        Option("rate", float, "learning rate"),
        Option("decay", None, "the rate falls linearly to 0 over the training"),
        Option("clip", float, "a step's gradient is scaled down to at most this Euclidean norm"),
        Option("batch", int, "examples in a batch"),
        Option("epochs", int, "epochs of training, of which the last are kept"),
        Option("keep", int, "epochs whose checkpoints are kept and scored, the last ones"),
        Option("gelu", None, "smooth activations (GELU) in place of rectified units"),
        Option("pool", None, "average pooling in place of maximum pooling"),
        Option("logits", float, "factor that the logits are multiplied with"),
    )
}
PLAIN = "plain"
_TOKEN = re.compile(r"([a-z]+)(.*)")


def options_of(variant: str) -> dict[str, float | int | None]:
    """What a variant chooses, by word, in the order of OPTIONS; None where an option takes no number.

    Raises UserError for words that are no options, options that are named twice, and numbers that are missing or not positive.
    """
    found: dict[str, float | int | None] = {}
    for token in filter(None, re.split("[_,]", "" if variant == PLAIN else variant)):
        word, number = _split(token)
        if word in found:
            raise UserError(f"--variant {variant} names {word} twice; give it once")
        found[word] = _number(token, OPTIONS[word], number)
    return {word: found[word] for word in OPTIONS if word in found}


def variant_name(variant: str) -> str:
    """The one name of a variant, "" for the plain experiment; raises UserError as options_of does."""
    chosen = options_of(variant)
    return "_".join(word + ("" if number is None else _shortest(number)) for word, number in chosen.items())


def _split(token: str) -> tuple[str, str]:
    match = _TOKEN.fullmatch(token)
    if match is None or match[1] not in OPTIONS:
        known = ", ".join(option.word + ("" if option.kind is None else "<number>") for option in OPTIONS.values())
        raise UserError(f"{token} is no option of a variant; options are {known}")
    return match[1], match[2]


def _number(token: str, option: Option, text: str) -> float | int | None:
    if option.kind is None:
        if text:
            raise UserError(f"{token} is no option of a variant: {option.word} takes no number")
        return None
    try:
        number = option.kind(text)
    except ValueError:
        number = 0
    if not (number > 0 and math.isfinite(number) and re.fullmatch(r"[0-9.e+-]+", text)):
        kind = "a positive whole number" if option.kind is int else "a positive number"
        example = {"inside": "1e-8", "rate": "3e-4"}.get(option.word, "64" if option.kind is int else "0.5")
        raise UserError(f"{token} is no option of a variant: {option.word} takes {kind}, as in {option.word}{example}")
    return number


def _shortest(number: float | int) -> str:
    """A number's shortest text that reads as the same number: 1e-8, 3e-4, 0.1, 64."""
    if isinstance(number, int):
        return str(number)
    exact = next(text for places in range(17) if float(text := f"{number:.{places}e}") == number)
    mantissa, exponent = exact.split("e")
    scientific = f"{mantissa}e{int(exponent)}"
    plain = f"{number:f}".rstrip("0").rstrip(".")
    return plain if float(plain or 0) == number and len(plain) <= len(scientific) else scientific
