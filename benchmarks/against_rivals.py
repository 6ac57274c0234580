"""The rival methods against their own libraries, on one checkpoint of cnn_mnist3_10pc (30 x 900): kronfluence, captum, dattri.

Needs benchmarks/requirements.txt. Every library runs as its documentation says, in a process of its own, once plainly and once
with this project's process settings. EK-FAC agrees exactly on the empirical Fisher matrix alone: for the Fisher matrix
kronfluence draws labels at random, where this project takes the expectation. TracInCP and GAS are over all five checkpoints.
Writes benchmarks/results/against_rivals.json.
"""

import contextlib
import io
import tempfile
from dataclasses import dataclass

import common
import torch
from common import Outcome, contender, in_child, load, relative_error, repeat, with_plain_and_prepared, with_ratios
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

TASK, NUM_PER_CLASS = "mnist3", 10
PACKAGES = ("kronfluence", "captum", "dattri")
# Examples that captum and dattri take at once from the test set.
TEST_BATCH = 300


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    repeats: int = 3
    """Runs of each library, after one untimed run; this project's are three times as many."""


def _loaded(device: str, prepared: bool, fast_layout: bool):
    from tda.system.devices import prepare_process

    if prepared:
        prepare_process()
    return load(TASK, NUM_PER_CLASS, device, fast_layout)


@contender
def our_method(device: str, repeats: int, method: str, all_members: bool, settings: dict) -> Outcome:
    """Scores of the last checkpoint, or the mean over all checkpoints."""
    from tda.methods.registry import load_method

    members, train, test = _loaded(device, prepared=True, fast_layout=True)
    chosen = members if all_members else members[-1:]
    registered = load_method(method)

    def work() -> Tensor:
        for member in chosen:
            member.cache.clear()
        found = registered.score(chosen, train, test, registered.settings | settings)
        return torch.stack([attribution.scores for attribution in found]).mean(dim=0)

    seconds, scores = repeat(work, repeats)
    return Outcome(seconds, {"scores": scores.cpu()})


@contender
def kronfluence_ekfac(device: str, repeats: int, prepared: bool, empirical: bool) -> Outcome:
    """Factors and pairwise scores by the Analyzer, with its heuristic damping of 0.1 times the mean eigenvalue."""
    import logging

    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Classification(Task):
        def compute_train_loss(self, batch: tuple, model: nn.Module, sample: bool = False) -> Tensor:
            images, labels = batch
            logits = model(images)
            if sample:
                with torch.no_grad():
                    labels = torch.multinomial(logits.softmax(dim=1), num_samples=1).flatten()
            return functional.cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch: tuple, model: nn.Module) -> Tensor:
            images, labels = batch
            return functional.cross_entropy(model(images), labels, reduction="sum")

    members, train, test = _loaded(device, prepared, fast_layout=False)
    task = Classification()
    torch.manual_seed(0)
    model = prepare_model(members[-1].model, task)
    train_set, test_set = (TensorDataset(split.inputs.cpu(), split.labels.cpu()) for split in (train, test))

    def work() -> Tensor:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            analyzer = Analyzer(
                "benchmark",
                model,
                task,
                cpu=device == "cpu",
                output_dir=folder,
                disable_tqdm=True,
                log_level=logging.ERROR,
                log_main_process_only=True,
            )
            arguments = FactorArguments(strategy="ekfac", use_empirical_fisher=empirical)
            batch = {"per_device_batch_size": len(train_set), "overwrite_output_dir": True}
            analyzer.fit_all_factors("factors", train_set, factor_args=arguments, **batch)
            analyzer.compute_pairwise_scores(
                "scores",
                "factors",
                test_set,
                train_set,
                per_device_query_batch_size=TEST_BATCH,
                per_device_train_batch_size=len(train_set),
                score_args=ScoreArguments(damping_factor=None),
                overwrite_output_dir=True,
            )
            return analyzer.load_pairwise_scores("scores")["all_modules"].T

    seconds, scores = repeat(work, repeats)
    return Outcome(seconds, {"scores": scores.cpu()})


@contender
def captum_tracin_over_checkpoints(device: str, repeats: int, prepared: bool) -> Outcome:
    """TracInCP over all checkpoints with its sample-wise trick."""
    from captum.influence import TracInCP

    members, train, test = _loaded(device, prepared, fast_layout=False)
    rate = members[0].plan.learning_rate

    def load_checkpoint(model: nn.Module, state: dict) -> float:
        model.load_state_dict(state)
        return rate

    tracin = TracInCP(
        members[-1].model,
        TensorDataset(train.inputs, train.labels),
        checkpoints=[{name: value.clone() for name, value in member.model.state_dict().items()} for member in members],
        checkpoints_load_func=load_checkpoint,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=len(train),
        sample_wise_grads_per_batch=True,
    )
    batches = list(zip(test.inputs.split(TEST_BATCH), test.labels.split(TEST_BATCH), strict=True))
    seconds, scores = repeat(lambda: torch.cat([tracin.influence(batch) for batch in batches]), repeats)
    return Outcome(seconds, {"scores": scores.T.detach().cpu()})


@contender
def dattri_tracin_over_checkpoints(device: str, repeats: int, prepared: bool, normalised: bool) -> Outcome:
    """TracInAttributor over all checkpoints, without the projection that it otherwise always makes; normalised: GAS."""
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    members, train, test = _loaded(device, prepared, fast_layout=False)
    model = members[-1].model

    def loss(parameters: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        image, label = data
        return functional.cross_entropy(torch.func.functional_call(model, parameters, image[None]), label[None])

    states = [{name: value.clone() for name, value in member.model.state_dict().items()} for member in members]
    attributor = TracInAttributor(
        task=AttributionTask(loss_func=loss, model=model, checkpoints=states),
        weight_list=torch.full((len(members),), members[0].plan.learning_rate),
        normalized_grad=normalised,
        device=device,
    )
    attributor.projector_kwargs = None
    loaders = (
        DataLoader(TensorDataset(train.inputs, train.labels), batch_size=len(train)),
        DataLoader(TensorDataset(test.inputs, test.labels), batch_size=TEST_BATCH),
    )
    with torch.no_grad():
        seconds, scores = repeat(lambda: attributor.attribute(*loaders), repeats)
    return Outcome(seconds, {"scores": scores.detach().cpu()})


def compare(settings: Settings, method: str, all_members: bool, changed: dict, rivals: list[tuple[str, str, dict]]) -> dict:
    """Rows of this project's method and of each rival, with the relative difference of the rival's scores from ours."""
    arguments = {"method": method, "all_members": all_members, "settings": changed}
    mine = in_child("our_method", device=settings.device, repeats=3 * settings.repeats, **arguments)
    rows = [mine.row("this project")]
    for label, name, options in rivals:
        shared = {"device": settings.device, "repeats": settings.repeats}
        found, arrays = with_plain_and_prepared(label, name, **shared, **options)
        difference = relative_error(arrays["scores"], mine.arrays["scores"])
        rank = _rank_correlation(arrays["scores"], mine.arrays["scores"])
        rows += [row | {"relative_difference": difference, "rank_correlation": rank} for row in found]
    return with_ratios(rows)


def _rank_correlation(left, right) -> float:
    from scipy.stats import spearmanr

    return common.rounded(float(spearmanr(left.ravel(), right.ravel()).statistic), 4)


def main(settings: Settings) -> str:
    """Measure and write the result."""
    tracin = [
        ("captum TracInCP, sample-wise trick", "captum_tracin_over_checkpoints", {}),
        ("dattri TracIn, projection cleared", "dattri_tracin_over_checkpoints", {"normalised": False}),
    ]
    gas = [("dattri TracIn, normalised gradients", "dattri_tracin_over_checkpoints", {"normalised": True})]
    empirical = [("kronfluence, empirical Fisher matrix", "kronfluence_ekfac", {"empirical": True})]
    fisher = [("kronfluence, labels drawn at random", "kronfluence_ekfac", {"empirical": False})]
    with common.temporary_root():
        in_child("trained_members", task=TASK, num_per_class=NUM_PER_CLASS, device=settings.device)
        content = {
            "tracin": compare(settings, "tracin", True, {}, tracin),
            "gas": compare(settings, "gas", True, {}, gas),
            "ekfac_empirical": compare(settings, "ekfac", False, {"matrix": "empirical_fisher"}, empirical),
            "ekfac": compare(settings, "ekfac", False, {}, fisher),
        }
    return f"wrote {common.write_result('against_rivals', settings.device, content, PACKAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
