"""From constants to closing line: which step is called, and how mistakes and interrupts end."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import CHECKOUT, assert_refused, run_script
from tqdm import tqdm

from tda.system.command_line import run
from tda.system.errors import UserError

PROGRAM = """
from dataclasses import dataclass
from tda.system.command_line import run

@dataclass
class Settings:
    size: int = 10
    "How large it is."

run(Settings(), "", lambda settings: "done")
"""


@dataclass
class Settings:
    size: int = 10
    """How large it is."""


def end_of(main, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(SystemExit) as caught:
        run(Settings(), "", main)
    return caught.value.code


def test_mistake_of_a_user_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def main(settings: Settings) -> str:
        raise UserError("the file\nis missing;   put it there")

    assert end_of(main, monkeypatch) == 2
    assert capsys.readouterr().err == "error: the file is missing; put it there\n"


def test_a_sentence_begins_a_line_of_its_own_after_a_progress_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def main(settings: Settings) -> str:
        for _ in tqdm(range(3), desc="working"):
            raise UserError("the disk is full")

    assert end_of(main, monkeypatch) == 2
    error = capsys.readouterr().err
    assert "working" in error and error.endswith("\nerror: the disk is full\n")


def test_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def main(settings: Settings) -> str:
        raise KeyboardInterrupt

    assert end_of(main, monkeypatch) == 130
    assert "the same command continues" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        OSError("failed to map segment"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_lack_of_memory_says_what_to_choose(error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def main(settings: Settings) -> str:
        raise error

    assert end_of(main, monkeypatch) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: memory ran out; choose fewer") and told.count("\n") == 1


def test_reader_that_goes_away_is_no_mistake(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, program], stdout=write, stderr=subprocess.PIPE, env=environment, text=True)
    assert done.returncode == 128 + signal.SIGPIPE and done.stderr == ""


def test_an_interrupt_after_the_work_is_none(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text("import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\n" + PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, program], capture_output=True, env=environment, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_defect_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    def main(settings: Settings) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(ZeroDivisionError):
        run(Settings(), "", main)


def test_closing_line_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(sys, "argv", ["script", "--size", "4"])
    run(Settings(), "", lambda settings: f"wrote {settings.size} files")
    assert capsys.readouterr().out == "wrote 4 files\n"


def test_help_of_a_script_run_by_a_user(tmp_path: Path):
    done = run_script("tda_cnn_scripts/run_cnn_if.py", "--help", root=tmp_path / "root")
    assert done.returncode == 0 and "gauss_newton" in done.stdout and done.stderr == ""


def test_wrong_value_of_a_script_run_by_a_user(tmp_path: Path):
    environment = os.environ | {"TDA_ROOT": str(tmp_path)}
    command = [sys.executable, str(CHECKOUT / "run_cnn_training.py"), "--task", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert_refused(done, "unknown task nothing")


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("a library took the interrupt for a missing module")

sys.meta_path.insert(0, Interrupting())
sys.argv = ["{script}"]
import runpy
runpy.run_path("{script}", run_name="__main__")
"""


def test_interrupt_while_libraries_are_imported(tmp_path: Path):
    """Whatever a library makes of the exception: the process ends at once, with one line."""
    code = INTERRUPTED_IMPORT.format(script=CHECKOUT / "run_cnn_training.py")
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"TDA_ROOT": str(tmp_path)}, capture_output=True)
    assert done.returncode == 130 and done.stderr == b"interrupted; the same command continues where this one stopped\n"


def test_interrupts_raise_again_once_everything_is_imported(monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGINT)
    seen = []
    run_settings = type("Named", (Settings,), {"__module__": "tda.settings.show_summary"})
    monkeypatch.setattr("tda.steps.show_summary.main", lambda settings: seen.append(signal.getsignal(signal.SIGINT)) or "done")
    monkeypatch.setattr(sys, "argv", ["script"])
    monkeypatch.setattr("tda.system.command_line.parse", lambda settings, description, arguments: settings)
    run(run_settings(), "")
    assert seen == [before]
