"""What `unrolled` costs: forwards against leave-one-out, backwards in trainings, against a plain loop and bergson's MAGIC.

Forwards: all scores of seed 0 at its five checkpoints, by `unrolled`, exactly and with the Gauss-Newton matrix of every step,
and by `loo`, with all threads; a transformer with adapters among them, whose steps have no formulas of their own. Backwards:
the last checkpoint of seed 0, for one test example and for several that share a pass, with one thread, in units of one
training; the plain loop keeps every state and differentiates each step of the optimizer by double backward; MAGIC does the same
work with the training's states on disk. There the two-layer CNN trains by Adam with epsilon inside the root, as MAGIC's authors
do: automatic differentiation has no number for the derivative of a root at zero. The public perceptron trains for fewer epochs
than in the field. Needs benchmarks/requirements.txt for MAGIC, which is left out where it is not installed.
Ratios are of processor seconds, which other work on the machine disturbs less than the clock.
Writes benchmarks/results/through_training.json.
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import common
import numpy as np
import plain_unrolling
import torch
from common import Measured, Outcome, contender, in_child, repeat, rounded

FORWARDS = ("cnn_mnist3_10pc", "cnn_mnist3_50pc", "vit_mnist3_10pc")
BACKWARDS = {
    "cnn_mnist3_50pc": {"adam_epsilon_inside": 1e-8},
    "mlp_mnist_500pc": {"epochs": 2},
}
PACKAGES = ("bergson", "torchopt")


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    repeats: int = 3
    """Runs of each contender, each in a process of its own."""
    num_test: int = 100
    """Test examples that share a backward pass."""
    parts: str = "forwards,backwards"
    """Which of the two, separated by a comma; figures of the other by the same device and versions are kept."""


def _study(experiment: str, device: str):
    from tda.experiments.folders import Experiment
    from tda.system.devices import prepare_process
    from tda.training.study import open_study

    prepare_process()
    model, task, size = experiment.split("_")
    return open_study(Experiment(model, task, int(size.removesuffix("pc"))), device)


def _timed(work: Callable[[], object], warm_up: int = 1) -> tuple[list[float], dict, object]:
    """Seconds and processor seconds of one run, and its result."""
    if warm_up:
        work()
    before = time.process_time()
    seconds, found = repeat(work, 1, warm_up=0)
    return seconds, {"processor_seconds": time.process_time() - before}, found


@contender
def trained_member(experiment: str, device: str) -> Outcome:
    """Train seed 0 into the root."""
    from tda.training.ensembles import train_ensemble

    study = _study(experiment, device)
    seconds, _ = repeat(lambda: train_ensemble(study, [0], force=False), 1, warm_up=0)
    return Outcome(seconds)


@contender
def all_scores(experiment: str, device: str, method: str, settings: dict) -> Outcome:
    """Scores of every kept checkpoint."""
    from tda.methods.registry import load_method
    from tda.training.members import load_members

    study = _study(experiment, device)
    members = load_members(study, 0, study.plan.kept_epochs)
    train, test = study.inputs(study.train), study.inputs(study.test)
    registered = load_method(method)
    work = lambda: list(registered.score(members, train, test, registered.settings | settings))  # noqa: E731
    seconds, facts, found = _timed(work, warm_up=0)
    return Outcome(seconds, {"scores": torch.stack([each.scores for each in found]).cpu().numpy()}, facts)


def _one_thread(experiment: str, device: str, changes: dict):
    """The training of seed 0 on one thread, and the test split."""
    from tda.models.model_state import read_state
    from tda.system.devices import on_device
    from tda.training.runs import Run
    from tda.training.taken_steps import Training

    study = _study(experiment, device)
    torch.set_num_threads(1)
    plan, seed = replace(study.plan, **changes), study.seed(0)
    batches = plan.batches(seed, len(study.train))
    run = Run(read_state(study.new_model(seed)), batches, [len(batches)], seed=seed)
    model = on_device(study.new_model(seed), study.device)
    return Training(model, plan, study.task.objective, run, study.inputs(study.train)), study.inputs(study.test)


@contender
def one_training(experiment: str, device: str, changes: dict, num_test: int) -> Outcome:
    """The training alone, without any evaluation."""
    from tda.training.many_models import train_many

    training, _ = _one_thread(experiment, device, changes)
    work = lambda: list(train_many(training.model, training.plan, training.objective, [training.run], training.train))  # noqa: E731
    seconds, facts, _ = _timed(work)
    return Outcome(seconds, facts=facts | {"steps": len(training.run.batches)})


@contender
def our_backwards(experiment: str, device: str, changes: dict, num_test: int) -> Outcome:
    """Derivatives (num_test, n_train) of the loss."""
    from tda.unrolling.both_ways import Unrolling

    training, test = _one_thread(experiment, device, changes)
    unrolling = Unrolling.of(training, test, training.objective.loss, 4 * 2**30)
    tests = test[torch.arange(num_test)]
    # A pass of many test examples is long enough without a first one.
    work = lambda: unrolling.backwards(len(training.run.batches), tests)  # noqa: E731
    seconds, facts, found = _timed(work, warm_up=int(num_test == 1))
    return Outcome(seconds, {"derivatives": found.cpu().numpy()}, facts)


@contender
def plain_loop(experiment: str, device: str, changes: dict, num_test: int) -> Outcome:
    """The same for one test example, by double backward."""
    training, test = _one_thread(experiment, device, changes)
    seconds, facts, found = _timed(lambda: plain_unrolling.derivatives(training, test[torch.arange(1)]))
    return Outcome(seconds, {"derivatives": found[None].cpu().numpy()}, facts)


@contender
def magic(experiment: str, device: str, changes: dict, num_test: int) -> Outcome:
    """The same for one test example, by bergson."""
    import magic_unrolling

    training, test = _one_thread(experiment, device, changes)

    def work() -> torch.Tensor:
        with tempfile.TemporaryDirectory() as folder:
            return magic_unrolling.derivatives(training, test[torch.arange(1)], Path(folder))

    seconds, facts, found = _timed(work)
    return Outcome(seconds, {"derivatives": found[None].cpu().numpy()}, facts)


def _in_turns(contenders: dict[str, tuple[str, dict]], repeats: int) -> dict[str, Measured]:
    """Each contender's runs together, with the largest peak."""
    runs: dict[str, list[Measured]] = {label: [] for label in contenders}
    for _ in range(repeats):
        for label, (name, arguments) in contenders.items():
            runs[label].append(in_child(name, **arguments))
    together = {}
    for label, found in runs.items():
        facts = found[0].facts | {"processor_seconds": float(np.median([run.facts["processor_seconds"] for run in found]))}
        seconds, peak = [run.seconds[0] for run in found], max(run.peak_mib for run in found)
        together[label] = replace(found[0], seconds=seconds, peak_mib=peak, facts=facts)
    return together


def _forwards(experiment: str, device: str, repeats: int) -> dict:
    """Rows of leave-one-out and of the derivative, with rank correlations with it at the last checkpoint."""
    in_child("trained_member", experiment=experiment, device=device)
    shared, linearised = {"experiment": experiment, "device": device}, {"mode": "forward", "curvature": "gauss_newton"}
    found = _in_turns(
        {
            "LOO": ("all_scores", shared | {"method": "loo", "settings": {}}),
            "unrolled, forwards": ("all_scores", shared | {"method": "unrolled", "settings": {"mode": "forward"}}),
            "unrolled, Gauss-Newton": ("all_scores", shared | {"method": "unrolled", "settings": linearised}),
        },
        repeats,
    )
    removal, exact, _ = (run.arrays["scores"][-1] for run in found.values())
    rows = [run.row(label) for label, run in found.items()]
    for row, run in zip(rows, found.values(), strict=True):
        scores = run.arrays["scores"][-1]
        row["ratio"] = rounded(row["processor_seconds"] / rows[0]["processor_seconds"], 3)
        row["with_removal"], row["with_exact"] = _agreement(scores, removal), _agreement(scores, exact)
    return {"rows": rows}


def _agreement(scores: np.ndarray, others: np.ndarray) -> float:
    """Mean over the test examples of the rank correlation between the training examples' scores."""
    from scipy.stats import spearmanr

    pairs = zip(scores.T, others.T, strict=True)
    return rounded(float(np.nanmean([spearmanr(*pair).statistic for pair in pairs])), 3)


def _backwards(experiment: str, changes: dict, settings: Settings) -> dict:
    """Rows with seconds and trainings for a test example, and the largest difference from the plain loop's derivatives."""
    shared = {"experiment": experiment, "device": settings.device, "changes": changes, "num_test": 1}
    together = f"this project, {settings.num_test} test examples"
    contenders = {
        "one training": ("one_training", shared),
        "this project, 1 test example": ("our_backwards", shared),
        together: ("our_backwards", shared | {"num_test": settings.num_test}),
        "plain double backward, 1 test example": ("plain_loop", shared),
    }
    if importlib.util.find_spec("bergson"):
        contenders["bergson's MAGIC, 1 test example"] = ("magic", shared)
    found = _in_turns(contenders, settings.repeats)
    training = found["one training"]
    expected, rows = found["plain double backward, 1 test example"].arrays["derivatives"], []
    for label, run in found.items():
        scale = 1 / settings.num_test if label == together else 1.0
        row = run.row(label, scale)
        row["processor_seconds"] = rounded(scale * row["processor_seconds"])
        row["trainings"] = rounded(row["processor_seconds"] / training.facts["processor_seconds"], 3)
        if run.arrays:
            difference = np.abs(run.arrays["derivatives"][:1] - expected).max() / np.abs(expected).max()
            row["largest_difference"] = rounded(float(difference), 2)
        rows.append(row)
    return {"rows": rows, "changes": changes, "steps": training.facts["steps"]}


def main(settings: Settings) -> str:
    """Measure and write the result."""
    content = common.earlier("through_training", settings.device, PACKAGES)
    parts, before = settings.parts.split(","), os.getloadavg()
    with common.temporary_root():
        if "forwards" in parts:
            content["forwards"] = {name: _forwards(name, settings.device, settings.repeats) for name in FORWARDS}
        if "backwards" in parts:
            content["backwards"] = {name: _backwards(name, changes, settings) for name, changes in BACKWARDS.items()}
    loads = {part: [rounded(load, 2) for load in (before[0], os.getloadavg()[0])] for part in parts}
    content["load_average"] = content.get("load_average", {}) | loads
    return f"wrote {common.write_result('through_training', settings.device, content, PACKAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
