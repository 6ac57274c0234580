"""What the workflow's configuration means: combinations, defaults, files, arguments, and what is refused."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import CHECKOUT

from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.models.families import family_named
from tda.system.errors import UserError

CONFIGURATION = yaml.safe_load((CHECKOUT / "workflow" / "config.yaml").read_text())
TINY = {"model": "cnn", "task": "digits3", "num_per_class": 2}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the models' code answered to a test, so that the next does not ask again."""
    return tmp_path_factory.mktemp("training_facts")


@pytest.fixture
def fresh_studies(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """The function that reads a configuration, in a root folder of the test's own."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "workflow"))
    from studies import studies

    return studies


@pytest.fixture
def studies(fresh_studies: Callable, root: Path, answers: Path) -> Callable:
    """The same with the answers of earlier tests."""
    (root / ".snakemake").mkdir()
    (root / ".snakemake" / "training_facts").symlink_to(answers)
    return fresh_studies


def configured(**entry: object) -> dict:
    """The committed configuration with one target of one entry."""
    return copy.deepcopy(CONFIGURATION) | {"targets": {"tiny": [TINY | entry]}}


def test_the_committed_targets_are_the_small_study_and_the_whole_grid(studies: Callable):
    found = studies(CONFIGURATION)
    assert [study.experiment for study in found["digits3"]] == [Experiment("cnn", "digits3", 10)]
    names = {study.experiment.name for study in found["grid"]}
    wanted = {f"{model}_{task}_{size}pc" for model in ("cnn", "vit") for task in ("mnist3", "cifar10") for size in (10, 20, 50)}
    assert names == wanted and len(found["grid"]) == 12
    for study in found["grid"]:
        plan = family_named(study.experiment.model).plan(task_named(study.experiment.task))
        assert study.last_epoch == plan.kept_epochs[-1] and "loo" in study.methods
        assert study.shares_work == (study.experiment.model == "vit")
        assert study.training_script == family_named(study.experiment.model).training_script


def test_files_lie_where_the_scripts_write_them(studies: Callable):
    (study,) = studies(configured(seeds=3, methods=["trak", "loo"]))["tiny"]
    assert study.checkpoint(1) == "models/cnn/cnn_digits3_2pc/1/ckpt_epoch_15.safetensors"
    folders = ["trak/0", "trak/1", "trak/2", "loo/0", "loo/1", "loo/2"]
    last = [f"results/cnn_digits3_2pc/tda_scores/{folder}/attribution_epoch_15.parquet" for folder in folders]
    assert study.score_files() == last
    assert study.products()[0] == "results/cnn_digits3_2pc/summary.csv" and len(study.products()) == 3


def test_all_methods_are_those_that_make_results_scores(studies: Callable):
    (study,) = studies(configured())["tiny"]
    assert len(study.methods) == 14 and "datamodels" not in study.methods and study.settings_of(*study.methods) == ""


def test_settings_become_arguments(studies: Callable):
    chosen = configured(methods=["if", "trak"], method_settings={"if": {"damping": 0.5}, "trak": {"ridge": None}})
    (study,) = studies(chosen)["tiny"]
    assert study.settings_of("if") == "--if.damping 0.5" and study.settings_of("trak") == "--trak.ridge none"
    assert study.settings_of("if", "trak") == "--if.damping 0.5 --trak.ridge none"


def test_the_command_line_overrides_defaults_and_entries_override_both(studies: Callable):
    given = configured() | {"seeds": 4, "jobs": "method"}
    (study,) = studies(given)["tiny"]
    assert (study.seeds, study.jobs) == (4, "method")
    (study,) = studies(configured(seeds=5) | {"seeds": 4})["tiny"]
    assert study.seeds == 5


def test_variants_and_training_arguments_decide_the_last_epoch(studies: Callable):
    (study,) = studies(configured(variant="epochs7_inside1e-8"))["tiny"]
    assert study.last_epoch == 7 and study.experiment.name == "cnn_digits3_2pc_inside1e-8_epochs7"
    entry = {"model": "resnet18", "training": ["--trained", "all", "--base", "random"]}
    (study,) = studies(configured(**entry))["tiny"]
    assert (study.last_epoch, study.training_script, study.shares_work) == (5, "run_image_finetuning.py", True)


def test_what_the_code_says_is_asked_once(fresh_studies: Callable, root: Path, monkeypatch: pytest.MonkeyPatch):
    first = fresh_studies(configured())
    monkeypatch.setattr("studies.subprocess.run", None)
    assert fresh_studies(configured()) == first
    with pytest.raises(TypeError):
        fresh_studies(configured(num_per_class=3))
    (kept,) = (root / ".snakemake" / "training_facts").iterdir()
    assert json.loads(kept.read_text())[0]["last_epoch"] == 15


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"model": "cnm"}, ["cnm", "cnn3"]),
        ({"task": "digits4"}, ["digits4"]),
        ({"num_per_class": "ten"}, ["num_per_class", "ten"]),
        ({"variant": "fast"}, ["fast"]),
        ({"methods": ["lou"]}, ["lou", "loo"]),
        ({"method_settings": {"if": {"damp": 1}}}, ["damp", "damping"]),
        ({"method_settings": {"if": 0.5}}, ["method_settings of if", "0.5", "values by name"]),
        ({"num_per_class": []}, ["empty list", "num_per_class"]),
        ({"methods": ["trak", "loo"], "method_settings": {"if": {"damping": 1}}}, ["if", "trak, loo"]),
        ({"training": ["--rank", "2"]}, ["rank"]),
        ({"jobs": "epoch"}, ["epoch", "method"]),
        ({"seeds": 2}, ["2", "3"]),
        ({"seeds": True}, ["seeds", "True"]),
        ({"gpus": -1}, ["negative"]),
        ({"analyses": ["plots"]}, ["plots", "p_values"]),
        ({"analyses": ["report"]}, ["p_values"]),
        ({"methods": ["trak"]}, ["two methods"]),
        ({"methods": ["trak", "if"], "analyses": ["agreement"]}, ["loo"]),
        ({"sead": 3}, ["sead", "seeds"]),
    ],
)
def test_what_cannot_be_meant_is_refused(entry: dict, words: list[str], studies: Callable):
    with pytest.raises(UserError) as caught:
        studies(configured(**entry))
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("key", ["targets", "defaults"])
def test_a_part_of_the_configuration_that_is_a_list_is_refused(key: str, studies: Callable):
    with pytest.raises(UserError, match=rf"{key} cannot be \['own'\], but must give values by name"):
        studies(configured() | {key: ["own"]})


def test_targets_that_disagree_are_refused(studies: Callable):
    config = configured()
    config["targets"]["other"] = [TINY | {"seeds": 4}]
    with pytest.raises(UserError, match="cnn_digits3_2pc with different settings"):
        studies(config)
    with pytest.raises(UserError, match="no targets"):
        studies({"defaults": CONFIGURATION["defaults"]})
