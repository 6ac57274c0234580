"""The documents say what is so: commands are accepted, links lead somewhere, tables name all there is and nothing else."""

import os
import re
import runpy
import shlex
import subprocess
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from conftest import CHECKOUT

from tda.data.tasks import TASKS
from tda.methods.catalogue import catalogue
from tda.models import families
from tda.system.command_line import parse
from tda.system.errors import UserError

README = CHECKOUT / "README.md"
DOCUMENTS = [*sorted(CHECKOUT.glob("*.md")), *sorted((CHECKOUT / "docs").glob("*.md"))]
PAGES = [*DOCUMENTS, CHECKOUT / "benchmarks" / "README.md"]
FOLDERS_OF_TWINS = ("tda_cnn_scripts", "tda_vit_scripts")
SCRIPTS = sorted(path for folder in (".", *FOLDERS_OF_TWINS) for path in (CHECKOUT / folder).glob("run_*.py"))
DOCUMENTED_FILE = re.compile(r"# ((?:methods|tasks)/\w+\.py)\n")


def blocks(text: str, language: str) -> list[str]:
    """Contents of a page's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def inline_code(text: str) -> list[str]:
    """What stands between backticks outside of fenced blocks, on one line or wrapped."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", without_blocks(text))]


def prose_lines(text: str) -> list[str]:
    """Lines that a person writes and wraps: no table, no image, nothing that is rendered between markers."""
    written = re.sub(r"^<!-- (?:begin|table) .*?^<!-- end", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in written.splitlines() if not line.startswith(("|", "![", "<!--"))]


def commands_of_blocks(text: str) -> list[list[str]]:
    """The commands of a page's sh blocks, without comments and without variables set before them."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines]
    return [command[next(i for i, word in enumerate(command) if "=" not in word) :] for command in found if command]


def commands_of_prose(text: str) -> list[list[str]]:
    """The commands among a page's inline code: a script, perhaps with arguments, or a target of make."""
    script = re.compile(r"(?:python )?(?:[\w./]+/)?run_[a-z0-9_]+\.py(?: .*)?|python benchmarks/\w+\.py(?: .*)?|make [a-z].*")
    return [shlex.split(code) for code in inline_code(text) if script.fullmatch(code)]


def commands() -> list[tuple[str, ...]]:
    """Every command of every page, once, without the interpreter in front of a script."""
    found = {}
    for text in (page.read_text() for page in PAGES):
        for command in commands_of_blocks(text) + commands_of_prose(text):
            interpreted = command[0] in ("python", ".venv/bin/python") and command[1].endswith(".py")
            found[tuple(command[1:] if interpreted else command)] = None
    return list(found)


def table_rows(text: str, heading: str) -> list[str]:
    """The rows of the table whose first line begins so."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading)) + 2
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    return lines[start:end]


def anchors(page: Path) -> set[str]:
    """Names of a page's headings in links."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def documented_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder that holds the methods and tasks of one's own that the documents show."""
    for page in DOCUMENTS:
        for block in blocks(page.read_text(), "python"):
            if name := DOCUMENTED_FILE.match(block):
                (tmp_path / name[1]).parent.mkdir(exist_ok=True)
                (tmp_path / name[1]).write_text(block)
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    return tmp_path


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_prose_is_wrapped(page: Path):
    assert [line for line in prose_lines(page.read_text()) if len(line) > 120] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_relative_links_and_images_lead_to_a_file_and_a_heading(page: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text())):
        if link.startswith(("http:", "https:")):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        assert not heading or heading in anchors(target), f"{page.name} links to {link}, a heading that {target.name} lacks"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_python_blocks_compile(page: Path):
    for block in blocks(page.read_text(), "python"):
        compile(block, str(page), "exec")


def test_the_documented_family_is_one(monkeypatch: pytest.MonkeyPatch):
    file, entry = blocks((CHECKOUT / "docs" / "adding-a-family.md").read_text(), "python")
    module = types.ModuleType("tda.models.bag_of_tokens")
    exec(file, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    imports, _, call = entry.rpartition("\n\n")
    names = dict(vars(families))
    exec(imports, names)
    family = eval(call, names)
    assert family.build is module.bag_of_tokens and family.plan(TASKS["qnli"]).epochs == TASKS["qnli"].epochs


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_documented_commands_are_accepted(command: tuple[str, ...], documented_root: Path, capsys: pytest.CaptureFixture):
    program, *arguments = command
    if program == "make":
        check_make(arguments)
    elif program.endswith("pip"):
        check_pip(arguments)
    elif program == "python3":
        assert arguments == ["-m", "venv", ".venv"]
    elif program.endswith("snakemake"):
        check_snakemake(arguments)
    elif program.startswith("benchmarks/"):
        assert (CHECKOUT / program).is_file()
    else:
        check_script(program, arguments, capsys)


def check_make(arguments: list[str]) -> None:
    """make has the targets and variables; nothing is run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "--dry-run", *arguments], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    makefile = (CHECKOUT / "Makefile").read_text()
    for name in (argument.partition("=")[0] for argument in arguments if "=" in argument):
        assert re.search(rf"^{name} [:?]?=", makefile, re.MULTILINE), f"the Makefile has no variable {name}"


def check_snakemake(arguments: list[str]) -> None:
    """Targets are those of the workflow, profiles are there."""
    targets = yaml.safe_load((CHECKOUT / "workflow" / "config.yaml").read_text())["targets"]
    for before, argument in zip(["", *arguments], arguments, strict=False):
        assert before != "--profile" or (CHECKOUT / argument / "config.yaml").is_file(), f"there is no profile {argument}"
        is_target = not argument.startswith("-") and before not in ("--profile", "--cores")
        assert not is_target or argument in targets, f"the workflow has no target {argument}"


def check_pip(arguments: list[str]) -> None:
    """Files of requirements are there, and versions are those of req.txt."""
    required = (CHECKOUT / "req.txt").read_text().splitlines()
    for before, argument in zip(arguments, arguments[1:], strict=False):
        assert before not in ("-r", "-c") or (CHECKOUT / argument).is_file(), f"{argument} is missing"
        assert "==" not in argument or argument in required, f"req.txt has another version than {argument}"


def check_script(script: str, arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    """The script's own command line takes the arguments; nothing is run."""
    assert CHECKOUT / script in SCRIPTS, f"there is no {script}"
    module = runpy.run_path(str(CHECKOUT / script), run_name="documented")
    try:
        parse(module["SETTINGS"], module["__doc__"], arguments)
    except (SystemExit, UserError) as refusal:
        pytest.fail(f"{script} {shlex.join(arguments)} is refused: {refusal}; {capsys.readouterr().err}")


def test_options_named_in_the_text_are_options_of_some_script():
    known = {"help", *(f"{name}.{setting}" for name, entry in catalogue().items() for setting in entry.settings)}
    for script in SCRIPTS:
        known |= {entry.name for entry in fields(runpy.run_path(str(script), run_name="documented")["SETTINGS"])}
    for page in DOCUMENTS:
        for code in inline_code(page.read_text()):
            if option := re.match(r"--([\w.]+)", code):
                assert option[1] in known, f"{page.name} names {code}, which no script takes"


def test_the_table_of_methods_names_every_method():
    cells = [row.split("|")[2] for row in table_rows(README.read_text(), "| method | short name | score |")]
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(catalogue())


def test_the_table_of_steps_names_every_script():
    rows = table_rows(README.read_text(), "| step | script |")
    twins = next(row for row in rows if "run_cnn_<name>.py" in row and "run_vit_<name>.py" in row).split("|")[2]
    named = {Path(name).name for row in rows for name in re.findall(r"`(run_\w+\.py)", row)}
    named |= {f"run_{family}_{name}.py" for family in ("cnn", "vit") for name in re.findall(r"`(\w+)`", twins)}
    existing = {script.name for script in SCRIPTS}
    assert existing - named == set()
    # A script of one family alone has no twin.
    assert {name.replace("run_vit_", "run_cnn_") for name in named - existing} <= existing


def test_scripts_name_the_step_that_the_table_has_them_in():
    named = 0
    for row in table_rows(README.read_text(), "| step"):
        _, step, scripts, *_ = row.split("|")
        for script in re.findall(r"`(?:python )?(run_\w+\.py)", scripts):
            said = re.match(r'"""Step (\d+)', (CHECKOUT / script).read_text())
            assert said[1] in re.findall(r"\d+", step), f"{script} says that it is step {said[1]}, the table {step}"
            named += 1
    assert named > 25


def test_every_model_is_named():
    settings = (CHECKOUT / "tda" / "settings" / "of_experiment.py").read_text()
    helped = re.search(r'model: str\n    """(.*?)"""', settings, re.DOTALL)[1]
    assert families.FAMILIES.keys() <= set(re.findall(r"\w+", helped))
    assert families.FAMILIES.keys() <= set(inline_code(README.read_text().split("\nModels: ")[1].split("\n\n")[0]))


def test_the_table_of_rooms_names_every_room():
    rooms = {path.parent.name for path in (CHECKOUT / "tda").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"`(\w+)/`", (CHECKOUT / "docs" / "architecture.md").read_text()))


def test_rendered_tables_are_those_of_the_reference_results(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    from reference_results import PAGES as RENDERED
    from reference_results import rendered

    texts = {path: path.read_text() for path in RENDERED}
    assert rendered(texts) == texts


def test_tables_of_benchmarks_are_those_of_their_results(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    from tables import PAGES as FILLED
    from tables import filled

    for path in FILLED:
        assert filled(path.read_text()) == path.read_text(), path
