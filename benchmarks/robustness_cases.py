"""What users get wrong, as cases for robustness.py: arguments of every script, damaged files, and calls of TRAKer."""

import dataclasses
import importlib.util
import os
import random
import shutil
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from common import CHECKOUT

SCRIPTS = sorted(
    str(path.relative_to(CHECKOUT)) for pattern in ("run_*.py", "tda_*_scripts/*.py") for path in CHECKOUT.glob(pattern)
)
EXPERIMENT = ("--model", "cnn", "--task", "digits3", "--num_per_class", "2")
_NUMBERS = {int: ("many", "1.5", "nan", "-3"), float: ("many", "nan", "inf", "-inf")}
_NEVER_NEGATIVE = ("num_", "smoothing_", "damping", "share", "alpha", "rank", "dropout", "size", "seed_id")
_NAMES = ("model", "task", "device", "method", "setting", "purpose", "score", "scores", "source", "channel_reduction")
_NAMES += ("ranked_by", "new_indices", "tests")


@dataclass(frozen=True)
class Case:
    """One mistake: what is done to a copy of the study, and the script that then runs.

    names: a word that the sentence must hold; spoilt: pattern whose first match is the spoilt file; may_recompute: whether the
    script makes that file anew, which is as good as refusing it.
    """

    kind: str
    title: str
    script: str
    arguments: tuple[str, ...]
    spoil: Callable[[Path], None] | None = None
    names: str = ""
    spoilt: str = ""
    may_recompute: bool = False


def module_of(script: str) -> ModuleType:
    """A script as a module, with its SETTINGS and docstring."""
    specification = importlib.util.spec_from_file_location("script_" + Path(script).stem, CHECKOUT / script)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def argument_cases() -> Iterator[Case]:
    """Wrong arguments of every script: unknown ones, text for numbers, numbers that mean nothing, names that nothing has."""
    for script in SCRIPTS:
        settings = module_of(script).SETTINGS
        annotations = typing.get_type_hints(type(settings))
        fields = {field.name: annotations[field.name] for field in dataclasses.fields(settings)}
        experiment = EXPERIMENT if "model" in fields else ("--task", "digits3")
        yield Case("argument", f"{script} --nonsense", script, ("--nonsense", "1"), names="nonsense")
        yield Case("argument", f"{script} a word alone", script, ("digits3",), names="digits3")
        if "experiment" in fields:
            yield Case("argument", f"{script} both names", script, ("--experiment", "a", "--task", "b"), names="experiment")
            yield Case("argument", f"{script} no experiment", script, ("--experiment", "cnn_none_1pc"), names="cnn_none_1pc")
        for name, annotation in fields.items():
            for value in _bad_values(name, annotation):
                if value == getattr(settings, name):
                    continue  # The script's own: an empty word can stand for none.
                given = tuple(word for word in experiment)
                if f"--{name}" in given:
                    place = given.index(f"--{name}")
                    given = given[:place] + given[place + 2 :]
                yield Case("argument", f"{script} --{name} {value}", script, (*given, f"--{name}", value), names="")


def _bad_values(name: str, annotation: object) -> Iterator[str]:
    kinds = [kind for kind in (int, float) if kind is annotation or kind in typing.get_args(annotation)]
    for kind in kinds:
        for value in _NUMBERS[kind]:
            if value != "-3" or name.startswith(_NEVER_NEGATIVE):
                yield value
    if name in _NAMES and not kinds:
        yield "nonsense"
        yield ""
    if name == "methods":
        yield "nonsense"


def oldest(root: Path, pattern: str) -> Path:
    """The file of a pattern that was made first: of several steps' retrainings, one of the first step's."""
    return min(root.glob(pattern), key=lambda path: (path.stat().st_mtime_ns, path))


def file_cases() -> Iterator[Case]:
    """Every kind of file that a step reads, spoilt in every way."""
    member, seed = "models/cnn/cnn_digits3_2pc/0", "results/cnn_digits3_2pc/tda_scores/grad_dot"
    score, tda = ("tda_cnn_scripts/run_cnn_gas.py", EXPERIMENT), ("run_compute_pvalues.py", EXPERIMENT)
    kinds = {
        "training index file": ("data/subset_indices/digits3/train_2pc.txt", *score, False),
        "test index file": ("data/subset_indices/digits3/test_50pc.txt", *score, False),
        "file of seeds": ("random_seeds.pt", *score, False),
        "checkpoint": (f"{member}/ckpt_epoch_15.safetensors", *score, False),
        "score file": (f"{seed}/1/attribution_epoch_13.parquet", *tda, False),
        "manifest": ("results/cnn_digits3_2pc/manifest.json", *score, False),
        "summary": ("results/cnn_digits3_2pc/summary.csv", "run_show_summary.py", EXPERIMENT, False),
        "retraining": ("results/cnn_digits3_2pc/retrainings/*", "run_subset_retraining.py", (*EXPERIMENT, *SUBSETS), True),
        "judged retraining": ("results/cnn_digits3_2pc/retrainings/*", "run_lds_evaluation.py", (*EXPERIMENT, *SUBSETS), False),
        "s_test file": ("results/cnn_digits3_2pc/s_test/if/0/*", "tda_cnn_scripts/run_cnn_s_test.py", EXPERIMENT, True),
        "method of one's own": ("methods/mine.py", "run_tda.py", (*EXPERIMENT, "--methods", "mine"), False),
        "task of one's own": ("tasks/mine.py", "run_subset_generation.py", ("--task", "mine", "--num_per_class", "2"), False),
    }
    # Without it there is nothing to refuse; with another one, or one letter changed, the user has another program.
    no_damage_to_a_program = ("missing", "another file of the kind", "one byte changed")
    for kind, (pattern, script, arguments, may_recompute) in kinds.items():
        for damage, spoil in DAMAGES.items():
            if kind in ("method of one's own", "task of one's own") and damage in no_damage_to_a_program:
                continue

            def on(root: Path, pattern: str = pattern, spoil: Callable[[Path], None] = spoil, script: str = script) -> None:
                if script == score[0]:
                    # What is scored already would not be read again.
                    shutil.rmtree(root / "results/cnn_digits3_2pc/tda_scores/gas")
                spoil(oldest(root, pattern))

            yield Case(kind, f"{kind}: {damage}", script, arguments, on, spoilt=pattern, may_recompute=may_recompute)


SUBSETS = ("--num_subsets", "3", "--num_retrainings", "1")


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    _replace(path, bytes(content))


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _another(path: Path) -> None:
    """The next file of the same kind in its place: of another epoch, part, or subset."""
    others = [other for other in sorted(path.parent.iterdir()) if other != path and other.suffix == path.suffix]
    content = others[0].read_bytes() if others else b"[]"
    _replace(path, content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": lambda path: _replace(path, b""),
    "cut in half": lambda path: _replace(path, path.read_bytes()[: path.stat().st_size // 2]),
    "one byte changed": _flip_a_byte,
    "random bytes": lambda path: _replace(path, random.Random(0).randbytes(1000)),
    "text": lambda path: _replace(path, "not what it was: ä\n".encode()),
    "a number": lambda path: _replace(path, b"17\n"),
    "zeros": lambda path: _replace(path, bytes(path.stat().st_size)),
    "a folder": _as_folder,
    "a pipe": _as_pipe,
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "another file of the kind": _another,
}


def prepare(root: Path) -> None:
    """Files of the user's own that the cases spoil."""
    for folder, text in (("methods", _METHOD), ("tasks", _TASK)):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "mine.py").write_text(text)
    shutil.copy(root / "data/subset_indices/digits3/train_2pc.txt", root / "new.txt")


_METHOD = '''"""Grad-Dot once more."""

from tda import Attribution, per_member, register
from tda.methods.gradient_similarity import loss_kernel


@register("mine", "Mine", "this file")
@per_member
def mine(member, train, test):
    """g_train . g_test."""
    return Attribution(loss_kernel(member, train, test).cross)
'''
_TASK = '''"""The digits once more."""

from dataclasses import replace

from tda.data.tasks import TASKS

TASK = replace(TASKS["digits3"], name="mine")
'''
