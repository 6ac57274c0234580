"""What the tests share: a root folder of their own, a tiny trained ensemble, scripts run as a user runs them, real data."""

import importlib
import importlib.util
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tda.data.index_files import write_subset
from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.models import vit_pretraining
from tda.models.families import family_named
from tda.system.tensor_files import read_tensors, write_tensors
from tda.training.members import Member, load_members
from tda.training.study import Study, open_study

pytest_plugins = ["tiny_model", "tiny_pairs"]

CHECKOUT = Path(__file__).parent.parent
CPU = torch.device("cpu")
SEEDS = (11, 22, 33)
EXPERIMENT = Experiment("cnn", "digits3", 2)
FAMILIES = ("cnn", "vit")
MODELS = ("cnn", "vit", "text", "language", "bert", "gpt", "t5", "llama")
RAW_FOLDERS = ("MNIST", "cifar-10-batches-py")


def make_root(folder: Path, sizes: tuple[int, ...] = (2, 3)) -> Path:
    """Three seeds and the index files of digits3, as a root folder; TDA_ROOT must point there already."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(torch.tensor(SEEDS), folder / "random_seeds.pt")
    for split, size in [("train", size) for size in sizes] + [("test", 50)]:
        write_subset(task_named("digits3"), split, size, draw_seed=0, force=False)
    return folder


def for_some(*values: object, families: Sequence[str] = ("cnn", "text", "gpt")) -> object:
    """Values of a test's parameters with which it runs on some families only, where other values run on each."""
    return pytest.param(*values, marks=pytest.mark.families(*families))


def _takes_its_family(item: pytest.Item) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    family = parameters.get("tiny", parameters.get("ensemble"))
    return family is None or all(family in mark.args for mark in item.iter_markers("families"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal out modules that say so first, then those of many tests: what two workers share at the end is short."""
    items[:] = filter(_takes_its_family, items)
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.get_closest_marker("dealt_first") is None, -sizes[item.path]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a module that says EVERY_FAMILY run on a model of each family, or of those that a test names."""
    named = metafunc.definition.get_closest_marker("families")
    for fixture, families in (("ensemble", FAMILIES), ("tiny", MODELS)):
        if getattr(metafunc.module, "EVERY_FAMILY", False) and fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, named.args if named else families, indirect=True)


@pytest.fixture(autouse=True)
def own_random_numbers() -> None:
    """What a test draws without a generator of its own is the same, whichever tests ran before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_processor_settings() -> Iterator[None]:
    """Undo what scoring and training set for the whole process."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder with three seeds and index files of digits3, and nothing else."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    return make_root(tmp_path)


def trained(experiment: Experiment, folder: Path) -> Path:
    """Train an experiment's members in a new root folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(folder))
        shrink_embedded_base(monkeypatch)
        make_root(folder)
        run_here(family_named(experiment.model).training_script, **named(experiment))
    return folder


def named(experiment: Experiment) -> dict[str, object]:
    """The settings by which a script is told an experiment."""
    return {"model": experiment.model, "task": experiment.task, "num_per_class": experiment.num_per_class}


def shrink_embedded_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the embedded base be one that is pre-trained in a second."""
    for name, value in {"WIDTH": 16, "DEPTH": 2, "HEADS": 2, "PATCH_SIZE": 14, "STEPS": 30}.items():
        monkeypatch.setattr(vit_pretraining, name, value)


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with the trained members of EXPERIMENT, to be copied, never changed."""
    return trained(EXPERIMENT, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def trained_vit_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for vision transformers, with the small base that they were fine-tuned from."""
    return trained(replace(EXPERIMENT, model="vit"), tmp_path_factory.mktemp("fine-tuned"))


@contextmanager
def copied(root: Path, folder: Path) -> Iterator[Path]:
    """A copy of a root folder, in which steps work within the block; for results that the tests of a module share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(shutil.copytree(root, folder)))
        yield folder


@dataclass(frozen=True)
class Ensemble:
    """Trained members in a root folder of the test's own.

    train, test: what the models take for the examples, of which there are few test ones.
    """

    root: Path
    study: Study
    train: Split
    test: Split

    def members(self, *epochs: int, seed_id: int = 0) -> list[Member]:
        """Members of one seed at the given epochs."""
        return load_members(self.study, seed_id, epochs)


@pytest.fixture
def ensemble(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    """A copy of the tiny ensemble, with its splits; 21 test examples keep naive loops short."""
    model = getattr(request, "param", EXPERIMENT.model)
    folder = tmp_path / "root"
    shutil.copytree(request.getfixturevalue("trained_root" if model == "cnn" else "trained_vit_root"), folder)
    monkeypatch.setenv("TDA_ROOT", str(folder))
    study = open_study(replace(EXPERIMENT, model=model), "cpu")
    return Ensemble(folder, study, study.inputs(study.train), study.inputs(study.test[:21]))


def start_script(script: str, *arguments: object, root: Path, **options: object) -> subprocess.Popen:
    """Start a script on the CPU, from a working directory that is not the checkout, without the bars of a slow machine."""
    environment = os.environ | {"TDA_ROOT": str(root), "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["TQDM_DISABLE"] = "1"
    command = [sys.executable, str(CHECKOUT / script), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=root.parent, env=environment, **pipes, **options)


def run_script(script: str, *arguments: object, root: Path, **options: object) -> subprocess.CompletedProcess:
    """Run a script to its end, as start_script starts it."""
    process = start_script(script, *arguments, root=root, **options)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def assert_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """A script that met a user's mistake ends with status 2 and one line on standard error, in which the words stand."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert done.stdout == ""


def script_module(script: str) -> ModuleType:
    """A script as a module, for its SETTINGS and its docstring."""
    name = "script_" + Path(script).stem
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, CHECKOUT / script)
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def settings_of(script: str, **changed: object) -> Any:
    """A script's constants, some of them changed, to be computed with on the CPU."""
    return replace(script_module(script).SETTINGS, **{"device": "cpu"} | changed)


def run_here(script: str, **changed: object) -> str:
    """Do what a script does in this process, some of its constants changed; returns its closing line."""
    settings = settings_of(script, **changed)
    stem = type(settings).__module__.rpartition(".")[2]
    # What a step sets for its process, another script's process would not see.
    torch.set_flush_denormal(False)
    return importlib.import_module(f"tda.steps.{stem}").main(settings)


def write_checkpoint(experiment: Experiment, seed_id: int, epoch: int) -> str:
    """A checkpoint that says nothing of itself, of which scores can be; returns the hash of its content."""
    path = experiment.checkpoint_file(seed_id, epoch)
    write_tensors(path, {"number": torch.tensor([seed_id, epoch])}, {"seed": seed_id})
    return read_tensors(path)[1]["sha256"]


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """Bytes of every file below a folder that matches one of the patterns, by relative path."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


def temporary_files(folder: Path) -> list[Path]:
    """What unfinished writers left behind."""
    return sorted(folder.rglob("*.tmp"))


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds MNIST and CIFAR-10 in torchvision's layout; skips where there is no such data."""
    if all((CHECKOUT / "data" / name).exists() for name in RAW_FOLDERS):
        return CHECKOUT / "data"
    unpack = Path(os.environ.get("TDA_UNPACK", ""))
    if not unpack.is_file():
        pytest.skip(f"MNIST and CIFAR-10 are not in {CHECKOUT / 'data'}, and TDA_UNPACK names no program that lays them out")
    folder = tmp_path_factory.mktemp("raw")
    subprocess.run([sys.executable, unpack, folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def real_root(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder with the real data sets and the committed index files and seeds."""
    folder = tmp_path / "root"
    shutil.copytree(CHECKOUT / "data" / "subset_indices", folder / "data" / "subset_indices")
    shutil.copy(CHECKOUT / "random_seeds.pt", folder)
    for name in RAW_FOLDERS:
        (folder / "data" / name).symlink_to((real_data / name).resolve())
    monkeypatch.setenv("TDA_ROOT", str(folder))
    return folder
