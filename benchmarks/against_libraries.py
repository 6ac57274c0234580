"""Against what a user would install instead: captum, dattri and traker, on one checkpoint of cnn_mnist3_10pc (30 x 900).

Needs benchmarks/requirements.txt. Every library runs as its documentation says, at the fastest of the settings tried here, in a
process of its own, once plainly and once with this project's process settings; agreement is against float64 autograd.
Writes benchmarks/results/against_libraries.json.
"""

import tempfile
from dataclasses import dataclass

import common
import numpy as np
import torch
from common import (
    Outcome,
    contender,
    in_child,
    load,
    relative_error,
    repeat,
    rounded,
    with_plain_and_prepared,
    with_ratios,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

TASK, NUM_PER_CLASS = "mnist3", 10
PACKAGES = ("captum", "dattri", "traker")
# The fastest of 100, 300 and 900; what projects draws its projection anew for each batch, and prefers large ones.
CAPTUM_TEST_BATCH, DATTRI_TEST_BATCH, TRAKER_TEST_BATCH = 300, 300, 900


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    repeats: int = 3
    """Runs of each library, after one untimed run; this project's are three times as many."""
    default_columns: int = 10
    """Test examples for captum without its sample-wise trick, scaled up."""
    influence_columns: int = 8
    """Test examples for influence functions by conjugate gradients, in both libraries."""


def _loaded(device: str, prepared: bool, fast_layout: bool):
    from tda.system.devices import prepare_process

    if prepared:
        prepare_process()
    members, train, test = load(TASK, NUM_PER_CLASS, device, fast_layout)
    return members[-1], train, test


def _datasets(train, test) -> tuple[TensorDataset, TensorDataset]:
    return TensorDataset(train.inputs, train.labels), TensorDataset(test.inputs, test.labels)


@contender
def float64_reference(device: str) -> Outcome:
    """Gradients of losses by plain autograd in float64, one example at a time; every inner product and the curvature's."""
    from kernel_floor import float64_gradients

    member, train, test = _loaded(device, prepared=True, fast_layout=False)
    work = lambda: [float64_gradients(member.model, split.inputs, split.labels) for split in (train, test)]  # noqa: E731
    seconds, (left, right) = repeat(work, 1, warm_up=0)
    return Outcome(seconds, {"grad_dot": (left @ right.T).cpu()})


@contender
def our_kernel(device: str, repeats: int) -> Outcome:
    """Inner products and norms of all pairs."""
    from tda.gradients.gradient_kernel import gradient_kernel

    member, train, test = _loaded(device, prepared=True, fast_layout=True)
    work = lambda: gradient_kernel(member.model, (train.inputs, train.labels), (test.inputs, test.labels))  # noqa: E731
    seconds, kernel = repeat(work, repeats)
    return Outcome(seconds, {"grad_dot": kernel.cross.cpu()})


@contender
def our_margin_scores(device: str, repeats: int) -> Outcome:
    """TRAK's scores without projection, Q (K + ridge)^-1 K_test of margins, from one kernel; ridge: K's mean diagonal."""
    from tda.gradients.gradient_kernel import gradient_kernel
    from tda.gradients.quantities import margin

    member, train, test = _loaded(device, prepared=True, fast_layout=True)

    def work() -> tuple[Tensor, Tensor]:
        left, right = (train.inputs, train.labels), (test.inputs, test.labels)
        kernel = gradient_kernel(member.model, left, right, quantity=margin, left_gram=True)
        gram, cross = kernel.left_gram.double(), kernel.cross.double()
        ridge = gram.diagonal().mean()
        return torch.linalg.solve(gram + ridge * torch.eye(len(gram), device=gram.device), cross), ridge

    seconds, (scores, ridge) = repeat(work, repeats)
    return Outcome(seconds, {"scores": (scores * _loss_weights(member, train)[:, None]).cpu()}, {"ridge": float(ridge)})


def _loss_weights(member, train) -> Tensor:
    """1 - p of the label, how far a training loss still moves with its margin (n_train,)."""
    with torch.no_grad():
        return 1 - member.model(train.inputs).softmax(1).gather(1, train.labels[:, None])[:, 0].double()


@contender
def captum_tracin(device: str, repeats: int, prepared: bool, sample_wise: bool, test_batch: int, columns: int) -> Outcome:
    """TracInCP with one checkpoint and learning rate 1, which is Grad-Dot."""
    from captum.influence import TracInCP

    member, train, test = _loaded(device, prepared, fast_layout=False)
    dataset, _ = _datasets(train, test)

    def load_checkpoint(model: nn.Module, state: dict) -> float:
        model.load_state_dict(state)
        return 1.0

    tracin = TracInCP(
        member.model,
        dataset,
        checkpoints=[member.model.state_dict()],
        checkpoints_load_func=load_checkpoint,
        loss_fn=nn.CrossEntropyLoss(reduction="sum" if sample_wise else "none"),
        batch_size=len(train),
        sample_wise_grads_per_batch=sample_wise,
    )
    inputs = list(zip(test.inputs[:columns].split(test_batch), test.labels[:columns].split(test_batch), strict=True))
    seconds, scores = repeat(lambda: torch.cat([tracin.influence(batch) for batch in inputs]), repeats)
    return Outcome(seconds, {"grad_dot": scores.T.detach().cpu()})


def _dattri_task(member, batched: bool):
    from dattri.task import AttributionTask

    def loss(parameters: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        image, label = data
        image, label = (image, label) if batched else (image[None], label[None])
        return functional.cross_entropy(torch.func.functional_call(member.model, parameters, image), label)

    return AttributionTask(loss_func=loss, model=member.model, checkpoints=member.model.state_dict())


@contender
def dattri_tracin(device: str, repeats: int, prepared: bool, projected: bool, test_batch: int) -> Outcome:
    """TracInAttributor with weight 1.

    With projector_kwargs=None, its default, version 0.3.0 still projects gradients to 512 random dimensions: its
    constructor starts from its default projector and only ever adds to it. Without projection: the attribute cleared.
    """
    from dattri.algorithm.tracin import TracInAttributor

    member, train, test = _loaded(device, prepared, fast_layout=False)
    attributor = TracInAttributor(
        task=_dattri_task(member, batched=False), weight_list=torch.ones(1), normalized_grad=False, device=device
    )
    if not projected:
        attributor.projector_kwargs = None
    dataset, test_dataset = _datasets(train, test)
    loaders = DataLoader(dataset, batch_size=len(train)), DataLoader(test_dataset, batch_size=test_batch)
    with torch.no_grad():
        seconds, scores = repeat(lambda: attributor.attribute(*loaders), repeats)
    return Outcome(seconds, {"grad_dot": scores.detach().cpu()})


@contender
def dattri_influence(device: str, repeats: int, prepared: bool, columns: int, max_iter: int, mode: str) -> Outcome:
    """IFAttributorCG with the damping of this project, all training examples in one batch, as its Hessian needs."""
    from dattri.algorithm.influence_function import IFAttributorCG

    from tda.curvature.products import hessian_products

    member, train, test = _loaded(device, prepared, fast_layout=False)
    task = _dattri_task(member, batched=True)
    attributor = IFAttributorCG(task=task, device=device, max_iter=max_iter, mode=mode, regularization=5e-3)
    dataset, test_dataset = _datasets(train, test)
    loader = DataLoader(dataset, batch_size=len(train))
    few = DataLoader(TensorDataset(test_dataset.tensors[0][:columns], test_dataset.tensors[1][:columns]), batch_size=columns)

    def work() -> Tensor:
        attributor.cache(loader)
        return attributor.attribute(loader, few)

    seconds, scores = repeat(work, repeats, warm_up=0)
    gradients = attributor.generate_test_rep(0, tuple(tensor.unsqueeze(0) for tensor in few.dataset.tensors))
    solved = attributor.transform_test_rep(0, gradients).detach()
    off = hessian_products(member.model, member.objective, train)(solved) + 5e-3 * solved - gradients
    residual = float((off.norm(dim=1) / gradients.norm(dim=1)).max())
    return Outcome(seconds, {"if": scores.detach().cpu()}, {"relative_residual": residual})


@contender
def our_influence(device: str, repeats: int, matrix: str, columns: int | None, **settings: object) -> Outcome:
    """Influence, exact in the dual for the Gauss-Newton matrix, by MINRES for the Hessian."""
    from tda.methods.registry import load_method

    member, train, test = _loaded(device, prepared=True, fast_layout=True)
    test = test[:columns]
    method = load_method("if")
    settings = method.settings | {"matrix": matrix} | settings
    seconds, found = repeat(lambda: next(method.score([member], train, test, settings)), repeats)
    return Outcome(seconds, {"if": found.scores.cpu()}, {"relative_residual": found.report["largest_relative_residual"]})


@contender
def traker_scores(device: str, repeats: int, prepared: bool, dimension: int, ridge: float) -> Outcome:
    """TRAKer of the image classification task: features of the training set, then scores of the test set.

    ridge: that of the exact kernel; the projected one is smaller by dimension / number of parameters.
    """
    import logging

    from trak import TRAKer

    member, train, test = _loaded(device, prepared, fast_layout=False)
    checkpoint = member.model.state_dict()
    num_parameters = sum(parameter.numel() for parameter in member.model.parameters())

    def work() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            traker = TRAKer(
                model=member.model,
                task="image_classification",
                train_set_size=len(train),
                save_dir=folder,
                device=device,
                proj_dim=dimension,
                use_half_precision=False,
                lambda_reg=ridge * dimension / num_parameters,
                logging_level=logging.ERROR,
            )
            traker.load_checkpoint(checkpoint, model_id=0)
            traker.featurize(batch=(train.inputs, train.labels), num_samples=len(train))
            traker.finalize_features()
            traker.start_scoring_checkpoint(exp_name="test", checkpoint=checkpoint, model_id=0, num_targets=len(test))
            for images, labels in zip(test.inputs.split(TRAKER_TEST_BATCH), test.labels.split(TRAKER_TEST_BATCH), strict=True):
                traker.score(batch=(images, labels), num_samples=len(labels))
            return np.array(traker.finalize_scores(exp_name="test"))

    seconds, scores = repeat(work, repeats)
    return Outcome(seconds, {"scores": scores})


def compare_tracin(settings: Settings, reference: np.ndarray) -> dict:
    """Grad-Dot by all; every row has its relative error against float64."""
    device, repeats = settings.device, settings.repeats
    columns = settings.default_columns
    mine = in_child("our_kernel", device=device, repeats=3 * repeats)
    rows = [mine.row("this project, gradient kernel") | {"relative_error": relative_error(mine.arrays["grad_dot"], reference)}]
    shared = {"device": device, "repeats": repeats}
    plain_captum = {"repeats": 1, "sample_wise": False, "test_batch": columns, "columns": columns}
    tries = [
        (
            "captum TracInCP, sample-wise trick",
            "captum_tracin",
            1,
            "",
            {"sample_wise": True, "test_batch": CAPTUM_TEST_BATCH, "columns": 900},
        ),
        ("captum TracInCP, default", "captum_tracin", 900 / columns, f"{columns} of 900 test examples", plain_captum),
        (
            "dattri TracIn, as documented (512 projections)",
            "dattri_tracin",
            1,
            "",
            {"projected": True, "test_batch": DATTRI_TEST_BATCH},
        ),
        ("dattri TracIn, projection cleared", "dattri_tracin", 1, "", {"projected": False, "test_batch": DATTRI_TEST_BATCH}),
    ]
    for label, name, scale, note, arguments in tries:
        found, arrays = with_plain_and_prepared(label, name, scale, note, **{**shared, **arguments})
        error = relative_error(arrays["grad_dot"], reference[:, : arrays["grad_dot"].shape[1]])
        rows += [row | {"relative_error": error} for row in found]
    return with_ratios(rows)


def compare_influence(settings: Settings) -> dict:
    """Ten Hessian products a vector by this project's MINRES and dattri's conjugate gradients, and their residuals."""
    device, columns = settings.device, settings.influence_columns
    ours = {"device": device, "repeats": settings.repeats}
    hessian = in_child("our_influence", **ours, matrix="hessian", columns=columns, max_iterations=10)
    rows = [hessian.row(f"this project, 10 iterations of MINRES, {columns} test examples")]
    arguments = {"device": device, "repeats": 1, "columns": columns, "max_iter": 10, "mode": "rev-rev"}
    rows += with_plain_and_prepared(
        f"dattri IFAttributorCG, 10 iterations, {columns} test examples", "dattri_influence", **arguments
    )[0]
    exact = in_child("our_influence", **ours, matrix="gauss_newton", columns=None)
    rows.append(exact.row("this project, Gauss-Newton matrix, exact, 900 test examples"))
    return with_ratios(rows)


def compare_trak(settings: Settings) -> dict:
    """TRAK's scores: projected by traker, exact in the dual here; agreement by Spearman's rank correlation."""
    from scipy.stats import spearmanr

    device = settings.device
    mine = in_child("our_margin_scores", device=device, repeats=3 * settings.repeats)
    arguments = {"device": device, "repeats": settings.repeats, "dimension": 512, "ridge": mine.facts["ridge"]}
    found, arrays = with_plain_and_prepared("traker, dimension 512", "traker_scores", **arguments)
    rank = float(spearmanr(arrays["scores"].ravel(), mine.arrays["scores"].ravel()).statistic)
    rows = [mine.row("this project, exact margin kernel")] + [row | {"rank_correlation": rounded(rank, 3)} for row in found]
    return with_ratios(rows)


def main(settings: Settings) -> str:
    """Measure and write the result."""
    with common.temporary_root():
        in_child("trained_members", task=TASK, num_per_class=NUM_PER_CLASS, device=settings.device)
        reference = in_child("float64_reference", device=settings.device).arrays["grad_dot"]
        content = {
            "grad_dot": compare_tracin(settings, reference),
            "trak": compare_trak(settings),
            "influence": compare_influence(settings),
        }
    return f"wrote {common.write_result('against_libraries', settings.device, content, PACKAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
