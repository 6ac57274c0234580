"""Every script's form: constants at its top, twins that differ in values alone, --help without torch, commands that parse."""

import ast
import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT, script_module

from tda.methods.catalogue import ALL, catalogue
from tda.system.arguments import field_documentation, parse

PATTERNS = ("run_*.py", "tda_*_scripts/run_*.py")
SCRIPTS = sorted(str(path.relative_to(CHECKOUT)) for pattern in PATTERNS for path in CHECKOUT.glob(pattern))
TWINS = sorted(script for script in SCRIPTS if script.startswith("tda_cnn_scripts/"))
COMMANDS = sorted(CHECKOUT.glob("results/reference/*/commands.sh"))
HEAVY = ("torch", "numpy", "pandas", "scipy", "matplotlib", "pyarrow", "transformers")


def twin_of(script: str) -> str:
    return script.replace("cnn", "vit")


def body_of(script: str) -> list[ast.stmt]:
    return ast.parse((CHECKOUT / script).read_text()).body


def test_scripts_and_commands_were_found():
    assert len(SCRIPTS) >= 40 and len(TWINS) >= 13 and len(COMMANDS) >= 15
    folders = {path.parent for path in CHECKOUT.glob("results/reference/*/*")}
    assert folders == {path.parent for path in COMMANDS}


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_holds_its_constants_and_nothing_else(script: str):
    docstring, imported, settings, guard = body_of(script)
    assert len((CHECKOUT / script).read_text().splitlines()) <= 60
    assert all(word in docstring.value.value for word in ("Reads", "Writes", "Cost"))
    assert isinstance(imported, ast.ImportFrom) and imported.module == "tda.settings"
    assert ast.unparse(settings.targets[0]) == "SETTINGS"
    assert ast.unparse(guard) == "if __name__ == '__main__':\n    run(SETTINGS, __doc__)"
    chosen = script_module(script).SETTINGS
    assert {word.arg for word in settings.value.keywords} == {entry.name for entry in dataclasses.fields(chosen)}
    stem = type(chosen).__module__.rpartition(".")[2]
    assert (CHECKOUT / "tda" / "steps" / f"{stem}.py").exists()


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script.startswith("tda_")])
def test_scoring_script_shows_every_setting_of_its_methods(script: str):
    """And at the registered values, so that run_tda.py and the methods' own scripts give the same numbers."""
    for name, settings in getattr(script_module(script).SETTINGS, "methods", {}).items():
        assert settings == {key: setting.default for key, setting in catalogue()[name].settings.items()}


def test_every_method_has_a_script_of_both_families():
    for family in ("cnn", "vit"):
        scripts = [script_module(script).SETTINGS for script in SCRIPTS if script.startswith(f"tda_{family}")]
        scored = {name for settings in scripts for name in getattr(settings, "methods", ())}
        assert scored >= {
            name for name, entry in catalogue().items() if entry.description.in_all and not entry.description.needs
        }
    assert script_module("run_tda.py").SETTINGS.methods == {ALL: {}}


def test_both_families_have_the_same_scripts():
    assert {twin_of(script) for script in TWINS} == {script for script in SCRIPTS if script.startswith("tda_vit_scripts/")}


@pytest.mark.parametrize("script", TWINS)
def test_twins_differ_in_the_family_alone(script: str):
    own, other = ("\n".join(map(ast.dump, body_of(name)[1:])) for name in (script, twin_of(script)))
    assert own != other and own.replace("'cnn'", "'vit'") == other


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_every_constant(script: str, capsys: pytest.CaptureFixture):
    module = script_module(script)
    documentation = field_documentation(type(module.SETTINGS))
    with pytest.raises(SystemExit) as caught:
        parse(module.SETTINGS, module.__doc__, ["--help"])
    # argparse breaks lines after a hyphen.
    text = " ".join(capsys.readouterr().out.split()).replace("- ", "-")
    assert caught.value.code == 0
    for entry in dataclasses.fields(module.SETTINGS):
        assert f"--{entry.name}" in text and len(documentation[entry.name]) > 20
        assert documentation[entry.name].replace("- ", "-") in text
    for name in getattr(module.SETTINGS, "methods", ()) if script.startswith("tda_") else ():
        assert all(f"--{name}.{key}" in text for key in catalogue()[name].settings)


@pytest.mark.parametrize("script", SCRIPTS)
def test_one_vocabulary(script: str):
    """What is chosen alike is named and explained alike."""
    settings = script_module(script).SETTINGS
    fields = {entry.name for entry in dataclasses.fields(settings)}
    assert "force" in fields
    # Before there is an experiment, and beside the experiments.
    if script not in ("run_subset_generation.py", "run_folder_attribution.py"):
        assert {"experiment", "model", "task", "num_per_class", "variant", "device"} <= fields
    if "num_seeds" in fields:
        documentation = field_documentation(type(settings))
        assert documentation["num_seeds"].startswith("Only so many of random_seeds.pt")


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--no_such_argument", 2), ("--num_per_class=x", 2)])
def test_no_library_is_imported_before_the_arguments_are_right(argument: str, status: int, tmp_path: Path):
    started = []
    for script in ("run_tda.py", "run_vit_finetuning.py", "run_compute_pvalues.py", "run_subset_generation.py"):
        command = [sys.executable, "-X", "importtime", str(CHECKOUT / script), argument]
        environment = os.environ | {"TDA_ROOT": str(tmp_path)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))
    for process in started:
        _, errors = process.communicate()
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in errors.splitlines() if "|" in line}
        assert process.returncode == status and "tda" in imported and not imported & set(HEAVY)


def lines_of(path: Path) -> list[list[str]]:
    return [shlex.split(line) for line in path.read_text().splitlines() if line.startswith("python ")]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.parent.name)
def test_commands_behind_the_tables_are_understood(path: Path):
    lines = lines_of(path)
    assert len(lines) >= 2
    for _, script, *arguments in lines:
        module = script_module(script)
        chosen = parse(module.SETTINGS, module.__doc__, arguments)
        named = getattr(chosen, "experiment", None) or "_".join([getattr(chosen, "model", ""), chosen.task])
        assert script == "run_subset_generation.py" or path.parent.name.startswith(named)
