"""Each method against the plain published algorithm, one checkpoint of one seed.

Trains one seed of cnn_mnist3_10pc (30 x 900) and of cnn_cifar10_50pc (500 x 500) into a temporary folder. The plain side runs
on a sample of test examples or removals and is scaled up; the table says by how much. This project's side runs a
seed's five checkpoints as its scripts do, and is divided by five.
Writes benchmarks/results/against_published.json.
"""

from dataclasses import dataclass

import common
import numpy as np
import plain
import torch
from common import Measured, Outcome, contender, in_child, load, relative_error, repeat, rounded
from surroundings import STYLES, Surroundings
from torch.utils.data import DataLoader

from tda.system.devices import prepare_process


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    mnist3: bool = True
    """Measure cnn_mnist3_10pc."""
    cifar10: bool = True
    """Measure cnn_cifar10_50pc."""
    repeats: int = 3
    """Runs of this project's side, after one untimed run."""


@dataclass(frozen=True)
class Sample:
    """How much of each experiment a side computes: test examples for pairs and influence, training examples for LOO and ATS.

    ours_lissa, ours_removals, ours_steps: the same of this project's side, None for everything. influence_checkpoints: of the
    five, for influence functions, which this project computes one after another; influence_repeats: runs of those.
    """

    task: str
    num_per_class: int
    pair_columns: int
    lissa_columns: int
    removals: int
    steps: int
    ours_lissa: int | None = None
    ours_removals: int | None = None
    ours_steps: int | None = None
    influence_checkpoints: int = 5
    influence_repeats: int | None = None


SAMPLES = {
    "mnist3": Sample("mnist3", 10, pair_columns=10, lissa_columns=20, removals=3, steps=10),
    "cifar10": Sample(
        "cifar10",
        50,
        pair_columns=2,
        lissa_columns=1,
        removals=1,
        steps=10,
        ours_lissa=16,
        ours_removals=7,
        ours_steps=40,
        influence_checkpoints=1,
        influence_repeats=1,
    ),
}


def _batch_order(member, batch_size: int, num_train: int) -> list[list[int]]:
    from tda.system.random_streams import stream

    order = torch.randperm(num_train, generator=stream(member.seed, "lissa batches"))
    return [batch.tolist() for batch in order.split(batch_size)]


def _few(dataset: torch.utils.data.Dataset, count: int) -> torch.utils.data.Dataset:
    return torch.utils.data.Subset(dataset, range(min(count, len(dataset))))


@contender
def plain_pairs(task: str, num_per_class: int, device: str, style: str, columns: int) -> Outcome:
    """Grad-Dot and Grad-Cos by loops over pairs."""
    around = Surroundings.of(task, num_per_class, device, style)
    model, loaders = around.members[-1].model, (DataLoader(around.train), DataLoader(_few(around.test, columns)))
    plain.pair_scores(model, DataLoader(_few(around.train, 5)), DataLoader(_few(around.test, 1)))
    seconds, (dot, cosine) = repeat(lambda: plain.pair_scores(model, *loaders), 1, warm_up=0)
    return Outcome(seconds, {"grad_dot": dot, "grad_cos": cosine})


@contender
def plain_lissa(task: str, num_per_class: int, device: str, style: str, columns: int) -> Outcome:
    """s_test by the LiSSA recursion for each test example, then influence."""
    around = Surroundings.of(task, num_per_class, device, style)
    member = around.members[-1]
    batches = DataLoader(around.train, batch_sampler=_batch_order(member, 8, len(around.train)))
    loaders = DataLoader(around.train), DataLoader(_few(around.test, columns)), batches
    plain.pair_scores(member.model, DataLoader(_few(around.train, 5)), DataLoader(_few(around.test, 1)))
    work = lambda: plain.lissa_scores(member.model, *loaders, damping=5e-3, scale=1e4)  # noqa: E731
    seconds, scores = repeat(work, 1, warm_up=0)
    return Outcome(seconds, {"if_lissa": scores})


@contender
def plain_loo(task: str, num_per_class: int, device: str, style: str, removals: int, double: bool = False) -> Outcome:
    """One retraining for each removed example, each up to the last checkpoint; the seconds are those of one removal.

    As published, the finished model is evaluated anew beside each retraining. double: in float64, as a reference.
    """
    around = Surroundings.of(task, num_per_class, device, style)
    member, train, test = around.members[-1], around.train, around.test
    untrained = member.study.new_model(member.seed).to(device)
    if double:
        untrained = untrained.double()
        train, test = (torch.utils.data.TensorDataset(split.inputs.double(), split.labels) for split in around.splits)
    batches, loader, table = member.plan.batches(member.seed, len(train)), DataLoader(test, 64), around.table()
    finished = plain.retrained(untrained, member.plan, batches, train, None)

    def change(removed: int) -> torch.Tensor:
        around.read_checkpoint(member.model)
        before = plain.test_losses(finished, loader)
        found = plain.test_losses(plain.retrained(untrained, member.plan, batches, train, removed), loader) - before
        around.write(table, removed, found)
        return found

    seconds, changes = [], []
    for removed in range(removals):
        run, found = repeat(lambda removed=removed: change(removed), 1, warm_up=0)
        seconds += run
        changes.append(found)
    return Outcome(seconds, {"loo": torch.stack(changes).cpu()})


@contender
def plain_ats(task: str, num_per_class: int, device: str, style: str, steps: int) -> Outcome:
    """One step on a copy for each training example, losses before and after; the seconds are those of one example."""
    around = Surroundings.of(task, num_per_class, device, style)
    member, loader, table = around.members[-1], DataLoader(around.test, 64), around.table()
    remembered = member.state.optimizer
    names = [name for name, _ in member.model.named_parameters()]
    state = {position: {key: remembered[key][name] for key in remembered} for position, name in enumerate(names)}

    def change(row: int) -> torch.Tensor:
        around.read_checkpoint(member.model)
        found = plain.added_step_changes(member.model, member.plan, state, *around.train[row], loader)
        around.write(table, row, found)
        return found

    change(len(around.train) - 1)
    seconds, changes = [], []
    for row in range(steps):
        run, found = repeat(lambda row=row: change(row), 1, warm_up=0)
        seconds += run
        changes.append(found)
    return Outcome(seconds, {"ats": torch.stack(changes).cpu()})


@contender
def ours(
    task: str,
    num_per_class: int,
    device: str,
    methods: list[str],
    repeats: int,
    examples: int | None = None,
    columns: int | None = None,
    checkpoints: int = 5,
) -> Outcome:
    """This project's methods for the last checkpoints of the seed; the seconds are those of one checkpoint."""
    from tda.methods.registry import load_method

    prepare_process()
    members, train, test = load(task, num_per_class, device, fast_layout=True)
    # The classes take turns in a split's order, so that its first examples are of all.
    members, train, test = members[-checkpoints:], train[:examples], test[:columns]
    chosen = [load_method(name) for name in methods]

    def work() -> dict[str, torch.Tensor]:
        for member in members:
            member.cache.clear()
        # The last member's scores are kept for the comparison.
        return {method.name: list(method.score(members, train, test, method.settings))[-1].scores for method in chosen}

    seconds, scores = repeat(work, repeats, warm_up=1 if repeats > 1 else 0)
    return Outcome([run / len(members) for run in seconds], {name: found.cpu() for name, found in scores.items()})


@contender
def ours_loo(task: str, num_per_class: int, device: str, removals: int, repeats: int) -> Outcome:
    """Retrainings without the first `removals` examples and the baseline; the seconds are those of one retraining."""
    from tda.methods.leave_one_out import loss_changes

    prepare_process()
    members, train, test = load(task, num_per_class, device, fast_layout=True)
    loss_changes(members[-1], train, test, [0])
    seconds, changes = repeat(lambda: loss_changes(members[-1], train, test, range(removals)), repeats, warm_up=0)
    return Outcome([run / (removals + 1) for run in seconds], {"loo": changes[-1].cpu()})


def compare(sample: Sample, settings: Settings) -> dict[str, dict]:
    """Method -> rows, ratio and agreement of one experiment."""
    shared = {"task": sample.task, "num_per_class": sample.num_per_class, "device": settings.device}
    in_child("trained_members", **shared)
    num_train, num_test = (30, 900) if sample.task == "mnist3" else (500, 500)
    found = {}

    def enter(
        name: str, mine: Measured, my_scale: float, plains: list[Measured], plain_scale: float, sampled: str, keys: list[str]
    ):
        rows = [measured.row(label, plain_scale, sampled) for label, measured in zip(STYLES.values(), plains, strict=True)]
        rows.append(mine.row("this project", my_scale))
        agreement = {key: _agreement(plains[0].arrays[key], mine.arrays[key]) for key in keys}
        ratios = {style: rounded(row["seconds"] / rows[-1]["seconds"], 3) for style, row in zip(STYLES, rows, strict=False)}
        found[name] = {"rows": rows, "ratios": ratios, "agreement": agreement}

    mine = in_child("ours", **shared, methods=["grad_dot", "grad_cos"], repeats=settings.repeats)
    plains = [in_child("plain_pairs", **shared, style=style, columns=sample.pair_columns) for style in STYLES]
    sampled = f"{sample.pair_columns} of {num_test} test examples"
    enter("grad_dot + grad_cos", mine, 1, plains, num_test / sample.pair_columns, sampled, ["grad_dot", "grad_cos"])

    how = {"repeats": sample.influence_repeats or settings.repeats, "checkpoints": sample.influence_checkpoints}
    converged = in_child("ours", **shared, **how, methods=["if"])
    mine = in_child("ours", **shared, **how, methods=["if_lissa"], columns=sample.ours_lissa)
    plains = [in_child("plain_lissa", **shared, style=style, columns=sample.lissa_columns) for style in STYLES]
    sampled = f"{sample.lissa_columns} of {num_test} test examples"
    my_scale = num_test / (sample.ours_lissa or num_test)
    enter("if_lissa", mine, my_scale, plains, num_test / sample.lissa_columns, sampled, ["if_lissa"])
    found["if"] = {"rows": [*found["if_lissa"]["rows"][:-1], converged.row("this project, converged")]}

    removals = sample.ours_removals or num_train
    mine = in_child("ours_loo", **shared, removals=removals, repeats=1 if sample.ours_removals else settings.repeats)
    plains = [in_child("plain_loo", **shared, style=style, removals=sample.removals) for style in STYLES]
    # One retraining of this project serves five checkpoints.
    enter("loo", mine, (num_train + 1) / 5, plains, num_train, f"{sample.removals} of {num_train} removals", [])
    exact = in_child("plain_loo", **shared, style="tuned", removals=sample.removals, double=True).arrays["loo"]
    found["loo"]["agreement"] = {"loo": _agreement_after_training(plains[0].arrays["loo"], mine.arrays["loo"], exact)}

    mine = in_child("ours", **shared, methods=["ats"], examples=sample.ours_steps, repeats=settings.repeats)
    plains = [in_child("plain_ats", **shared, style=style, steps=sample.steps) for style in STYLES]
    my_scale = num_train / (sample.ours_steps or num_train)
    enter("ats", mine, my_scale, plains, num_train, f"{sample.steps} of {num_train} examples", ["ats"])
    return found


def _agreement(reference: np.ndarray, scores: np.ndarray) -> dict:
    """How far this project's scores are from the plain ones on the sample; raises AssertionError if they disagree."""
    rows, columns = min(len(scores), len(reference)), min(scores.shape[1], reference.shape[1])
    scores, reference = scores[:rows, :columns], reference[:rows, :columns]
    error = relative_error(scores, reference)
    assert error < 1e-4, f"the scores disagree: relative error {error}"
    return {"relative_error": error, "entries": int(reference.size)}


def _agreement_after_training(reference: np.ndarray, scores: np.ndarray, exact: np.ndarray) -> dict:
    """The same for models trained apart, whose rounding errors grow with every step, so that float64 has to judge.

    Raises AssertionError if this project's scores are further from float64 than ten times the plain ones.
    """
    scores = scores[: len(reference)]
    mine, others = relative_error(scores, exact), relative_error(reference, exact)
    assert mine < max(1e-3, 10 * others), f"the scores disagree: relative errors against float64 {mine} and, plainly, {others}"
    found = {"relative_error": relative_error(scores, reference), "entries": int(reference.size)}
    return found | {"against_float64": mine, "plain_against_float64": others}


def main(settings: Settings) -> str:
    """Compare on the chosen experiments and write the result."""
    content = {"experiments": {}}
    for task, wanted in (("mnist3", settings.mnist3), ("cifar10", settings.cifar10)):
        if wanted:
            sample = SAMPLES[task]
            with common.temporary_root():
                content["experiments"][f"cnn_{task}_{sample.num_per_class}pc"] = compare(sample, settings)
            path = common.write_result("against_published", settings.device, content)
    return f"wrote {path}"


if __name__ == "__main__":
    common.run(Settings, main)
