"""The catalogue against the registry itself, and files of the user's own: read, loaded, refused with a sentence."""

import os
from pathlib import Path

import pytest
from conftest import CHECKOUT

from tda.methods.catalogue import catalogue, chosen_entries, method_title
from tda.methods.registry import load_method
from tda.system.errors import UserError

OWN = '''
from tda.methods.registry import Attribution, per_member, register

_TITLE = "Constant"


@register("constant", _TITLE, "nobody", height=1.5, steps=None, word="a")
@per_member
def constant(member, train, test, height: float, steps: int | None, word):
    """The same number for every pair.

    height: the number.
    """
    return Attribution(torch.full((len(train), len(test)), height))
'''


@pytest.fixture
def own_methods(root: Path) -> Path:
    folder = root / "methods"
    folder.mkdir()
    return folder


def write(path: Path, text: str) -> None:
    """Write a file whose time of change differs from that of one before."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_catalogue_says_what_each_file_registers():
    names = {path.stem for path in (CHECKOUT / "tda" / "methods").glob("*.py")}
    assert {entry.file.stem for entry in catalogue().values()} == names - {"__init__", "catalogue", "registry"}
    for name, entry in catalogue().items():
        method = load_method(name)
        assert {key: value for key, value in vars(method).items() if key not in ("score", "check")} == vars(entry.description)
        assert {key: setting.default for key, setting in entry.settings.items()} == method.settings
        assert entry.documentation and entry.title == method_title(name) != name


def test_types_come_from_annotations():
    settings = catalogue()["trak_projected"].settings
    assert settings["ridge"].annotation == float | None and settings["dimension"].annotation is int
    assert catalogue()["datamodels"].settings["alpha"].annotation is float


def test_all_brings_those_that_may_be_in_it_and_names_come_first():
    every = chosen_entries(["all"])
    assert list(every) == [name for name, entry in catalogue().items() if entry.description.in_all]
    assert list(chosen_entries(["trak", "all"]))[0] == "trak" and len(chosen_entries(["trak", "all"])) == len(every)


@pytest.mark.parametrize("names", [["magic"], ["if", "magic"], []])
def test_unknown_names_list_the_known_ones(names: list[str]):
    with pytest.raises(UserError, match="ats, bm25, caption_similarity, datamodels"):
        chosen_entries(names)


def test_file_of_the_user_is_read_and_loaded(own_methods: Path):
    write(own_methods / "mine.py", "import torch\n" + OWN)
    entry = catalogue()["constant"]
    assert (entry.title, entry.description.in_all, entry.file.name) == ("Constant", True, "mine.py")
    assert entry.documentation == "The same number for every pair.\n\nheight: the number."
    assert [setting.annotation for setting in entry.settings.values()] == [float, int | None, str]
    assert method_title("constant") == "Constant"
    method = load_method("constant")
    assert method.settings == {"height": 1.5, "steps": None, "word": "a"} and method is load_method("constant")
    write(own_methods / "mine.py", "import torch\n" + OWN.replace("1.5", "2.5"))
    assert catalogue()["constant"].settings["height"].default == load_method("constant").settings["height"] == 2.5


def test_nothing_is_loaded_but_what_is_asked_for(own_methods: Path):
    write(own_methods / "mine.py", "import torch\n" + OWN)
    write(own_methods / "other.py", OWN.replace("constant", "other") + "\nraise RuntimeError('imported')\n")
    assert load_method("constant").title == "Constant"
    with pytest.raises(UserError, match=r"other.py cannot be loaded: line 16: imported"):
        load_method("other")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def broken(:\n", r"mine.py cannot be read: line 1 is no Python, "),
        (OWN.replace("constant", "grad_dot"), r"mine.py registers grad_dot, as .*gradient_similarity.py does; choose another"),
        (OWN.replace('"constant"', '"Constant Score"'), r"mine.py, line 7: a method cannot be named Constant Score"),
        (OWN.replace('"constant"', '"all"'), r"mine.py, line 7: a method cannot be named all"),
        (OWN.replace("1.5", "int('3')"), r"mine.py, line 7: register needs .* plain values"),
        (OWN.replace(": int | None", ""), r"mine.py, line 7: setting steps needs an annotation"),
        (OWN.replace('"nobody", ', ""), r"mine.py, line 7: register needs a name, a title and a citation"),
    ],
)
def test_files_that_cannot_be_used_are_named(own_methods: Path, text: str, words: str):
    write(own_methods / "mine.py", text)
    with pytest.raises(UserError, match=words):
        catalogue()
    # A figure of finished scores does not wait for the mend.
    assert method_title("trak") == "TRAK" and method_title("constant") in ("constant", "Constant")
