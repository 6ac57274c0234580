"""Influence by the exact Gauss-Newton solve (`if`) and by block conjugate gradients (`if_cg`): seconds, memory, same answer.

The last checkpoint of seed 0. cnn_cifar10_50pc (500 x 500), the largest experiment of the study that the exact solve takes; and
mlp_mnist_500pc (5,000 x 500), of which its kernel would have 50,000 rows: there `if` solves by MINRES, whose products are with
vectors one beside another, on the first few test examples. Every run is a process of its own, the contenders in turns.
The members are trained into a temporary folder. Writes benchmarks/results/influence_solvers.json.
"""

import json
from dataclasses import dataclass, replace

import common
import numpy as np
from common import Measured, Outcome, contender, in_child, relative_error, repeat, rounded

WORKS = (
    {"experiment": "cnn_cifar10_50pc", "num_test": 500, "damping": 0.5, "exact": "if, exact"},
    {"experiment": "mlp_mnist_500pc", "num_test": 10, "damping": 0.02, "exact": "if, MINRES"},
)


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    repeats: int = 3
    """Runs of each contender, each in a process of its own."""
    experiments: str = ",".join(work["experiment"] for work in WORKS)
    """Which of the two experiments, separated by a comma; figures of the other by the same device and versions are kept."""


@contender
def trained_member(experiment: str, device: str) -> Outcome:
    """Train seed 0 into the root."""
    from tda.experiments.folders import Experiment
    from tda.system.devices import prepare_process
    from tda.training.ensembles import train_ensemble
    from tda.training.study import open_study

    prepare_process()
    study = open_study(_named(Experiment, experiment), device)
    seconds, _ = repeat(lambda: train_ensemble(study, [0], force=False), 1, warm_up=0)
    return Outcome(seconds)


@contender
def scores(experiment: str, device: str, num_test: int, method: str, settings: dict) -> Outcome:
    """Scores of the last checkpoint for the first test examples, with what the solver reports."""
    from tda.experiments.folders import Experiment
    from tda.methods.registry import load_method
    from tda.system.devices import prepare_process
    from tda.training.members import load_members
    from tda.training.study import open_study

    prepare_process()
    study = open_study(_named(Experiment, experiment), device)
    members = load_members(study, 0, study.plan.kept_epochs[-1:])
    train, test = study.inputs(study.train), study.inputs(study.test[:num_test])
    registered = load_method(method)
    work = lambda: list(registered.score(members, train, test, registered.settings | settings))  # noqa: E731
    seconds, (found,) = repeat(work, 1, warm_up=0)
    return Outcome(seconds, {"scores": found.scores.cpu().numpy()}, found.report)


def _named(kind: type, experiment: str):
    model, task, size = experiment.split("_")
    return kind(model, task, int(size.removesuffix("pc")))


def _agreement(found: np.ndarray, expected: np.ndarray) -> dict:
    from scipy.stats import spearmanr

    difference = np.abs(found.astype(np.float64) - expected)
    return {
        "rank_correlation": rounded(float(spearmanr(found.ravel(), expected.ravel()).statistic), 8),
        "largest_difference": rounded(float(difference.max() / np.abs(expected).max()), 2),
        "relative_difference": relative_error(found, expected),
    }


def _measured(work: dict, device: str, repeats: int) -> dict:
    in_child("trained_member", experiment=work["experiment"], device=device)
    damping = {"damping": work["damping"]}
    contenders = {
        work["exact"]: {"method": "if", "settings": damping},
        "if_cg, no preconditioner": {"method": "if_cg", "settings": damping | {"preconditioner": "none"}},
        "if_cg, EK-FAC": {"method": "if_cg", "settings": damping | {"preconditioner": "ekfac"}},
    }
    shared = {"experiment": work["experiment"], "device": device, "num_test": work["num_test"]}
    runs: dict[str, list[Measured]] = {label: [] for label in contenders}
    for _ in range(repeats):
        for label, arguments in contenders.items():
            runs[label].append(in_child("scores", **shared, **arguments))
    expected, rows = runs[work["exact"]][0].arrays["scores"], []
    for label, found in runs.items():
        seconds, peak = sum((run.seconds for run in found), []), max(run.peak_mib for run in found)
        row = replace(found[0], seconds=seconds, peak_mib=peak).row(label)
        rows.append(row if label == work["exact"] else row | _agreement(found[0].arrays["scores"], expected))
    return common.with_ratios(rows) | {"num_test": work["num_test"], "damping": work["damping"]}


def _earlier(device: str) -> dict:
    """Figures of an earlier run on the same device with the same versions."""
    path = common.RESULTS / f"influence_solvers{'_cuda' if device.startswith('cuda') else ''}.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    same = content.get("device") == common.device_name(device) and content.get("versions") == common.versions()
    return content["experiments"] if same else {}


def main(settings: Settings) -> str:
    """Measure, compare, write the JSON."""
    before = _earlier(settings.device)
    chosen = settings.experiments.split(",")
    with common.temporary_root():
        found = {
            work["experiment"]: _measured(work, settings.device, settings.repeats)
            for work in WORKS
            if work["experiment"] in chosen
        }
    return f"wrote {common.write_result('influence_solvers', settings.device, {'experiments': before | found})}"


if __name__ == "__main__":
    common.run(Settings, main)
