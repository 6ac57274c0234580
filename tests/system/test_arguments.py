"""Arguments over a script's constants: values, alternatives, choices with settings of their own, and mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from tda.system.arguments import Choice, Setting, field_documentation, parse
from tda.system.errors import UserError


@dataclass(kw_only=True)
class Base:
    size: int
    """How large it is."""
    name: str
    """What it is called,
    in two lines."""


@dataclass(kw_only=True)
class Settings(Base):
    """What the tests give arguments for."""

    alternatives: ClassVar = ((("folder",), ("size", "name")), (("seed_id",), ("num_seeds",)))

    folder: str | None = None
    """Where both are known from."""
    seed_id: int | None = None
    """Which seed; 5 % of them."""
    num_seeds: int | None = None
    """How many of them."""
    rate: float
    """How fast."""
    shares: tuple[float, ...]
    """How much of it."""
    force: bool = False
    """Again."""


@dataclass(kw_only=True)
class Choosing:
    """What chooses things with settings of their own."""

    things: dict[str, dict]
    """Things to take."""

    def choices(self, names: Sequence[str]) -> dict[str, Choice]:
        known = {
            "ball": Choice("ball, a ball", "It rolls.", {"radius": Setting(float | None, None), "red": Setting(bool, False)}),
            "die": Choice("die, a die", "It does not.", {"sides": Setting(int, 6)}),
        }
        if unknown := [name for name in names if name not in ("every", *known)]:
            raise UserError(f"unknown thing {unknown[0]}")
        return known if "every" in names else {name: known[name] for name in names}


SETTINGS = Settings(size=10, name="digits", rate=0.5, shares=(0.1, 0.2))
CHOOSING = Choosing(things={"ball": {"radius": 2.0}})


def test_constants_are_the_defaults():
    assert parse(SETTINGS, "", []) == SETTINGS


def test_arguments_replace_constants():
    given = ["--size", "3", "--name=x", "--seed_id", "2", "--rate", "1e-3", "--shares", "0.5, 1", "--force"]
    assert parse(SETTINGS, "", given) == Settings(size=3, name="x", seed_id=2, rate=1e-3, shares=(0.5, 1.0), force=True)
    assert parse(replace(SETTINGS, force=True), "", ["--no-force"]).force is False


def test_what_a_list_names_twice_counts_once():
    assert parse(SETTINGS, "", ["--shares", "0.5,0.1,0.50"]).shares == (0.5, 0.1)
    assert parse(replace(SETTINGS, shares=(0.5, 0.1, 0.5)), "", []).shares == (0.5, 0.1)


def test_none_takes_a_constant_away():
    assert parse(replace(SETTINGS, seed_id=4), "", ["--seed_id", "none"]).seed_id is None


@pytest.mark.parametrize("text", ["-3", "-3.5", "-1e-3"])
def test_negative_numbers(text: str):
    assert parse(SETTINGS, "", ["--rate", text, "--force"]) == replace(SETTINGS, rate=float(text), force=True)


def test_an_alternative_replaces_the_others():
    in_folder = replace(SETTINGS, folder="digits_10")
    assert parse(in_folder, "", ["--size", "3"]) == replace(SETTINGS, size=3)
    assert parse(SETTINGS, "", ["--folder", "digits_10"]) == in_folder
    assert parse(in_folder, "", ["--rate", "2"]) == replace(in_folder, rate=2.0)


def test_documentation_is_the_line_below_each_field():
    assert field_documentation(Settings) == {
        "size": "How large it is.",
        "name": "What it is called, in two lines.",
        "folder": "Where both are known from.",
        "seed_id": "Which seed; 5 % of them.",
        "num_seeds": "How many of them.",
        "rate": "How fast.",
        "shares": "How much of it.",
        "force": "Again.",
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--size", "many"], "--size: many is not a whole number"),
        (["--size", "1.5"], "--size: 1.5 is not a whole number"),
        (["--rate", "fast"], "--rate: fast is not a number"),
        (["--rate", "nan"], "--rate: nan is not a finite number"),
        (["--rate", "-inf"], "--rate: -inf is not a finite number"),
        (["--shares", "0.1,inf"], "--shares: inf is not a finite number"),
        (["--unknown", "1"], "unknown argument --unknown"),
        (["--siz", "3"], "unknown argument --siz"),
        (["digits"], "unknown argument digits"),
        (["--seed_id"], "--seed_id: expected one argument"),
        (["--folder", "x", "--name", "y"], "either --folder or --size --name, not both"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(given: list[str], words: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as caught:
        parse(SETTINGS, "", given)
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == ""
    assert said.err.startswith("error: ") and words in said.err and said.err.count("\n") == 1


def test_of_constants_that_exclude_each_other_the_script_holds_one(capsys: pytest.CaptureFixture):
    both = replace(SETTINGS, seed_id=3, num_seeds=2)
    with pytest.raises(SystemExit) as caught:
        parse(both, "", [])
    words = "error: the script's constants seed_id and num_seeds exclude each other; set all but one of them to None at its top"
    assert caught.value.code == 2 and capsys.readouterr().err.startswith(words)
    assert parse(both, "", ["--seed_id", "1"]) == replace(SETTINGS, seed_id=1)


def test_what_is_chosen_has_its_settings():
    assert parse(CHOOSING, "", []) == CHOOSING
    assert parse(CHOOSING, "", ["--ball.red"]).things == {"ball": {"radius": 2.0, "red": True}}
    assert parse(CHOOSING, "", ["--ball.radius", "none"]).things == {"ball": {"radius": None}}
    assert parse(CHOOSING, "", ["--things", "die,ball"]).things == {"die": {}, "ball": {"radius": 2.0}}
    assert parse(CHOOSING, "", ["--things", "die", "--die.sides", "8"]).things == {"die": {"sides": 8}}


def test_a_word_for_many_is_kept_with_what_is_set_for_them():
    assert parse(CHOOSING, "", ["--things", "every"]).things == {"every": {}, "ball": {"radius": 2.0}}
    found = parse(CHOOSING, "", ["--things", "every", "--die.sides", "8"]).things
    assert found == {"every": {}, "ball": {"radius": 2.0}, "die": {"sides": 8}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--things", "cup"], "unknown thing cup"),
        (["--die.sides", "8"], "--die.sides is a setting of die, which is not chosen; choose it by --things"),
        (["--ball.sides", "8"], "ball has no setting sides; it has radius, red"),
        (["--things", "die", "--die.sides", "x"], "--die.sides: x is not a whole number"),
    ],
)
def test_mistakes_in_a_choice(given: list[str], words: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as caught:
        parse(CHOOSING, "", given)
    assert caught.value.code == 2 and words in capsys.readouterr().err


def test_help_explains_fields_and_choices(capsys: pytest.CaptureFixture):
    for settings, words in (
        (SETTINGS, ["The script.", "--seed_id SEED_ID Which seed; 5 % of them. (default: none)", "(default: 0.1,0.2)"]),
        (CHOOSING, ["ball, a ball", "It rolls.", "--ball.radius RADIUS (default: 2.0)"]),
    ):
        with pytest.raises(SystemExit) as caught:
            parse(settings, "The script.", ["--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert caught.value.code == 0 and all(word in text for word in words), text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (replace(SETTINGS, size="10"), "constant size is '10', not a whole number; mend it"),
        (replace(SETTINGS, size=10.0), "constant size is 10.0, not a whole number"),
        (replace(SETTINGS, size=True), "constant size is True, not a whole number"),
        (replace(SETTINGS, rate="0.5"), "constant rate is '0.5', not a number"),
        (replace(SETTINGS, name=None), "constant name is None, not a text in quotes"),
        (replace(SETTINGS, seed_id="3"), "constant seed_id is '3', not a whole number or None"),
        (replace(SETTINGS, shares=0.1), "constant shares is 0.1, not a tuple, such as .*, each item a number"),
        (replace(SETTINGS, shares=("0.1",)), r"constant shares is \('0.1',\), not a tuple"),
        (replace(SETTINGS, force=1), "constant force is 1, not True or False"),
        (Choosing(things=("ball", "die")), r"constant things is \('ball', 'die'\), not a dict of names with their settings"),
        (Choosing(things={"ball": None}), "constant things is {'ball': None}, not a dict"),
    ],
)
def test_constants_of_another_kind_are_refused(settings: object, words: str):
    with pytest.raises(UserError, match=words):
        parse(settings, "", [])


def test_settings_of_another_kind_in_the_script_are_refused(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        parse(Choosing(things={"ball": {"radius": "2"}}), "", [])
    assert ended.value.code == 2
    assert "constant ball.radius is '2', not a number or None; mend it at its top" in capsys.readouterr().err


def test_whole_numbers_and_lists_fit_where_numbers_and_tuples_stand():
    assert parse(replace(SETTINGS, rate=1, shares=[1, 0.5]), "", []).shares == (1, 0.5)
