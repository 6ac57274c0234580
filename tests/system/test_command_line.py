"""Constants, arguments and help texts of every script, and how mistakes end."""

import ast
import dataclasses
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import CHECKOUT, assert_refused, run_script, script_module

from tda.system.command_line import field_documentation, parse
from tda.system.command_line import run_script as run_main
from tda.system.errors import UserError

PATTERNS = ("run_*.py", "tda_*_scripts/run_*.py")
SCRIPTS = sorted(str(path.relative_to(CHECKOUT)) for pattern in PATTERNS for path in CHECKOUT.glob(pattern))


@dataclass
class Base:
    size: int = 10
    """How large it is."""
    name: str = "digits"
    """What it is called,
    in two lines."""


@dataclass
class Settings(Base):
    """The constants to edit."""

    name: str = "mnist"
    seed_id: int | None = None
    """Which seed; 5 % of them."""
    rate: float = 0.5
    """How fast."""
    force: bool = False
    """Again."""


def test_defaults_and_arguments():
    assert parse(Settings, "", []) == Settings()
    given = ["--size", "3", "--name", "x", "--seed_id", "2", "--rate", "1e-3", "--force"]
    assert parse(Settings, "", given) == Settings(3, "x", 2, 1e-3, True)
    assert parse(Settings, "", ["--no-force"]).force is False


def test_documentation_is_the_line_below_each_field():
    assert field_documentation(Settings) == {
        "size": "How large it is.",
        "name": "What it is called, in two lines.",
        "seed_id": "Which seed; 5 % of them.",
        "rate": "How fast.",
        "force": "Again.",
    }


@pytest.mark.parametrize("given", [["--size", "many"], ["--unknown", "1"], ["--siz", "3"], ["digits"], ["--seed_id"]])
def test_wrong_arguments_end_with_status_2(given: list[str], capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as caught:
        parse(Settings, "", given)
    assert caught.value.code == 2 and "error: " in capsys.readouterr().err


def test_scripts_were_found():
    assert len(SCRIPTS) >= 8 and "run_cnn_training.py" in SCRIPTS and "tda_cnn_scripts/run_cnn_loo.py" in SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_every_constant(script: str, capsys: pytest.CaptureFixture):
    module = script_module(script)
    documentation = field_documentation(module.Settings)
    with pytest.raises(SystemExit) as caught:
        parse(module.Settings, module.__doc__, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for field in dataclasses.fields(module.Settings):
        assert f"--{field.name}" in text
        assert len(documentation[field.name]) > 20
        # argparse breaks lines after a hyphen.
        assert f"{documentation[field.name]} (default: {field.default})".replace("- ", "-") in text.replace("- ", "-")
    for word in ("Reads", "Writes", "Cost"):
        assert word in module.__doc__


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_short_and_its_constants_are_at_its_top(script: str):
    tree = ast.parse((CHECKOUT / script).read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["Settings"] and len((CHECKOUT / script).read_text().splitlines()) < 60


def test_help_of_a_script_run_by_a_user(tmp_path: Path):
    done = run_script("tda_cnn_scripts/run_cnn_if.py", "--help", root=tmp_path / "root")
    assert done.returncode == 0 and "gauss_newton, or hessian" in done.stdout and done.stderr == ""


def end_of(main, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(SystemExit) as caught:
        run_main(Settings, main)
    return caught.value.code


def test_mistake_of_a_user_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def main(settings: Settings) -> str:
        raise UserError("the file\nis missing;   put it there")

    assert end_of(main, monkeypatch) == 2
    assert capsys.readouterr().err == "error: the file is missing; put it there\n"


def test_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def main(settings: Settings) -> str:
        raise KeyboardInterrupt

    assert end_of(main, monkeypatch) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_defect_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    def main(settings: Settings) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(ZeroDivisionError):
        run_main(Settings, main)


def test_closing_line_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(sys, "argv", ["script", "--size", "4"])
    run_main(Settings, lambda settings: f"wrote {settings.size} files")
    assert capsys.readouterr().out == "wrote 4 files\n"


def test_wrong_argument_of_a_script_run_by_a_user(tmp_path: Path):
    environment = os.environ | {"TDA_ROOT": str(tmp_path)}
    command = [sys.executable, str(CHECKOUT / "run_cnn_training.py"), "--task", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert_refused(done, "unknown task nothing")
