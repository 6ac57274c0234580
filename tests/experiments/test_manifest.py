"""The record of what was computed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from conftest import EXPERIMENT, SEEDS

from tda.experiments import manifest
from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import Part, chosen_experiment, experiment_of, read_manifest, step, versions
from tda.system.errors import UserError
from tda.system.files import sha256

RESULTS = EXPERIMENT.results


def record(name: str, keep_earlier: bool = False, **arguments) -> None:
    with step(EXPERIMENT, name, arguments, {"train": "a", "test": "b"}, "cpu, 2 threads", SEEDS) as found:
        found.keep_earlier = keep_earlier


def test_step_is_recorded(root: Path):
    record("training", num_per_class=2)
    content = read_manifest(RESULTS)
    assert content["experiment"] == {"model": "cnn", "task": "digits3", "num_per_class": 2, "variant": ""}
    assert experiment_of(RESULTS) == EXPERIMENT
    entry = content["steps"]["training"]
    assert entry["arguments"] == {"num_per_class": 2} and entry["seeds"] == list(SEEDS)
    assert entry["input_sha256"] == {"train": "a", "test": "b"} and entry["device"] == "cpu, 2 threads"
    assert entry["versions"] == versions() and entry["wall_seconds"] >= 0 and entry["peak_memory_mib"] > 50
    # Of the code, though the results lie outside its checkout.
    checkout = Path(__file__).parents[2]
    assert (entry["git_commit"] is not None) == (checkout / ".git").exists()
    assert entry["git_commit"] is None or len(entry["git_commit"]) == 40
    assert versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_experiment_with_a_variant_is_found_again(root: Path):
    experiment = replace(EXPERIMENT, variant="shortcut")
    with step(experiment, "training", {}, {}):
        pass
    assert experiment_of(experiment.results) == experiment and not RESULTS.manifest.exists()
    entry = read_manifest(experiment.results)["steps"]["training"]
    assert entry["device"] == "cpu" and entry["seeds"] == []


def test_settings_name_a_variant_in_any_order_of_its_options():
    named = SimpleNamespace(experiment=None, model="cnn", task="digits3", num_per_class=2, variant="pool,rate0.0003")
    assert chosen_experiment(named) == replace(EXPERIMENT, variant="rate3e-4_pool")
    with pytest.raises(UserError, match="smooth is no option of a variant"):
        chosen_experiment(SimpleNamespace(**vars(named) | {"variant": "smooth"}))


def test_steps_stand_beside_each_other_and_a_repeated_one_is_replaced(root: Path):
    record("training", run=1)
    record("scoring loo", run=1)
    record("training", run=2)
    steps = read_manifest(RESULTS)["steps"]
    assert set(steps) == {"training", "scoring loo"} and steps["training"]["arguments"] == {"run": 2}


def test_step_that_found_everything_finished_leaves_the_earlier_record(root: Path):
    record("training", keep_earlier=True, run=1)
    record("training", keep_earlier=True, run=2)
    assert read_manifest(RESULTS)["steps"]["training"]["arguments"] == {"run": 1}


def test_other_tables_of_finished_work_are_recorded(root: Path):
    """Of the arguments that they were made with, and the seconds of the work."""
    table = root / "table.csv"
    for number, text in enumerate(("a", "b", "b")):
        table.write_text(text)
        with step(EXPERIMENT, "variance components", {"run": number}, {}, seeds=SEEDS) as found:
            found.keep_earlier, found.files = number > 0, [table]
        if not number:
            content = read_manifest(RESULTS)
            content["steps"]["variance components"]["wall_seconds"] = 100.0
            RESULTS.manifest.write_text(json.dumps(content))
    with step(EXPERIMENT, "variance components", {"run": 3}, {}, seeds=SEEDS) as found:
        found.keep_earlier = True
    entry = read_manifest(RESULTS)["steps"]["variance components"]
    assert entry["arguments"] == {"run": 1} and entry["files"] == {"table.csv": sha256(b"b")}
    assert 100 <= entry["wall_seconds"] < 160


def test_failed_step_is_not_recorded(root: Path):
    with pytest.raises(UserError), step(EXPERIMENT, "training", {}, {}):
        raise UserError("a mistake")
    assert not RESULTS.manifest.exists()


def test_steps_that_end_at_once_are_all_recorded(root: Path):
    threads = [Thread(target=record, args=(f"step {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_manifest(RESULTS)["steps"]) == {f"step {number}" for number in range(8)}


def test_other_torch_version_is_refused_before_anything_is_computed(root: Path, monkeypatch: pytest.MonkeyPatch):
    record("training")
    monkeypatch.setattr(manifest.metadata, "version", lambda name: "1.0")
    with pytest.raises(UserError, match="manifest.json says that training ran with torch 2.* but this is torch 1.0"):
        record("scoring loo")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"steps": {}}', '{"experiment": {}, "steps": {}}'])
def test_damaged_manifest_is_refused(root: Path, content: str):
    RESULTS.path.mkdir(parents=True)
    RESULTS.manifest.write_text(content)
    with pytest.raises(UserError, match="manifest.json is damaged; delete it"):
        read_manifest(RESULTS)
    with pytest.raises(UserError, match="manifest.json is damaged; delete it"):
        record("training")
    assert RESULTS.manifest.read_text() == content


def test_unknown_experiment_is_refused(root: Path):
    with pytest.raises(UserError, match="there is no experiment cnn_digits3_2pc: .*manifest.json is missing"):
        experiment_of(RESULTS)


def test_manifest_is_readable_text(root: Path):
    record("training")
    text = RESULTS.manifest.read_text()
    assert text.endswith("}\n") and json.loads(text) and text.count("\n") > 20


def test_seconds_of_a_run_that_goes_on_are_added(root: Path):
    record("scoring loo")
    content = read_manifest(RESULTS)
    content["steps"]["scoring loo"]["wall_seconds"] = 100.0
    RESULTS.manifest.write_text(json.dumps(content))
    for goes_on, seeds, earlier in ((True, SEEDS, 100.0), (True, SEEDS[:1], 0.0), (False, SEEDS, 0.0)):
        with step(EXPERIMENT, "scoring", {}, {}, seeds=seeds) as found:
            found.parts = [Part("scoring loo", {}, 0.0, keep_earlier=False, goes_on=goes_on)]
        seconds = read_manifest(RESULTS)["steps"]["scoring loo"]["wall_seconds"]
        assert earlier <= seconds < earlier + 60


def test_a_copy_under_another_name_is_refused(root: Path):
    record("training", run=1)
    shutil.copytree(RESULTS.path, RESULTS.path.with_name("backup"))
    with pytest.raises(UserError, match="backup holds the results of cnn_digits3_2pc under another name"):
        chosen_experiment(SimpleNamespace(experiment="backup"))
    assert experiment_of(ResultsFolder("backup")) == EXPERIMENT
