"""The exact derivative through the training: what an example's weight did to every test example, by every step that was taken.

The score is minus the derivative of the test loss by the example's weight in the training loss: the first-order prediction of
L(without) - L(with) for the same start and batches, which is what leave-one-out measures. It follows Adam's or SGD's steps and
their moments, decaying rates, clipping, dropout and batch normalisation exactly; see unrolling/both_ways.py for the two ways.
With the Gauss-Newton matrix in place of each step's Hessian it is the derivative of a training whose every step has a network
that is linearised where it stands; a classifier's step then costs as much for all examples as for one.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from tda.data.splits import Split
from tda.methods.registry import Attribution, register
from tda.models.model_state import trained_parameters
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.memory import FreedMemory
from tda.system.resumable_parts import ResumableParts
from tda.system.workers import in_order
from tda.training.ensembles import seed_run
from tda.training.members import Member
from tda.training.study import Study
from tda.training.taken_steps import Training
from tda.unrolling.both_ways import Unrolling

_MODES, _QUANTITIES = ("auto", "forward", "backward"), {"loss": -1, "margin": 1}
_CURVATURES = ("hessian", "gauss_newton")

# Examples that share a pass, at most: more hardly save anything, and a killed run loses what it has of them. On a CPU, models
# that only functional transforms follow take minutes an example, and no more than this many at a time.
_LARGEST_PART, _LARGEST_SLOW_PART = 100, 24


def _check(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    if study.task.objective.compares_examples:
        raise UserError(
            f"unrolled differentiates losses that are an example's own; a training step of task {study.task.name} compares the "
            "examples of its batch: choose loo, or another method"
        )
    if settings["mode"] not in _MODES:
        raise UserError(f"--unrolled.mode is {', '.join(_MODES[:-1])} or {_MODES[-1]}, not {settings['mode']}")
    if settings["quantity"] not in _QUANTITIES:
        raise UserError(f"--unrolled.quantity is {' or '.join(_QUANTITIES)}, not {settings['quantity']}")
    if settings["curvature"] not in _CURVATURES:
        raise UserError(f"--unrolled.curvature is {' or '.join(_CURVATURES)}, not {settings['curvature']}")
    for name in ("at_weight", "memory_gib"):
        if not settings[name] > 0 or math.isinf(settings[name]):
            raise UserError(f"--unrolled.{name} must be positive, not {settings[name]}")


@register(
    "unrolled",
    "Unrolled training",
    "Hara, Nitanda and Maehara 2019; Ilyas and Engstrom 2025",
    check=_check,
    in_all=False,
    mode="auto",
    curvature="hessian",
    quantity="loss",
    at_weight=1.0,
    memory_gib=4.0,
)
def unrolled(members: list[Member], train: Split, test: Split, settings: dict) -> Iterator[Attribution]:
    """Minus d L(test) / d weight of the training example, or d margin / d weight, through the whole training, at each epoch.

    mode: forward follows the training examples and serves all epochs at once, backward follows the test examples of each epoch;
    auto takes the cheaper. curvature: of every step, hessian (exact) or gauss_newton (linearised networks; a classifier's steps
    then cost little more for many examples than for one). quantity: loss in nats, or margin. at_weight: every example's weight
    in the training that is differentiated, 1 or the share that subsets keep. memory_gib: bytes of tangents, or of states, in
    GiB. The report says the mode, and how far the training's parameters are from the checkpoint's (largest difference; 0 is bit
    for bit).
    """
    # The training comes by its epochs in their order; members may be given in another.
    given, members = members, sorted(members, key=lambda one: one.epoch)
    member, weight = members[0], settings["at_weight"]
    epochs = [each.epoch for each in members]
    weights = None if weight == 1 else torch.full((len(train),), weight, device=train.device)
    run = seed_run(member.study, member.seed, weights, epochs)
    model = on_device(member.study.new_model(member.seed), train.device)
    training = Training(model, member.plan, member.objective, run, train)
    quantity, gauss_newton = getattr(member.objective, settings["quantity"]), settings["curvature"] == "gauss_newton"
    unrolling = Unrolling.of(training, test, quantity, int(settings["memory_gib"] * 2**30), gauss_newton)
    counts = {"forward": len(train), "backward": len(test)}
    # What costs is a product for each example, or with the Gauss-Newton matrix a step for all that share it.
    passes = {mode: len(_pieces(unrolling, count)) if gauss_newton else count for mode, count in counts.items()}
    mode = _mode(settings["mode"], passes["forward"], passes["backward"], run.snapshots)
    seeds = (member.seed, member.study.order_seed)
    made_of = (train.fingerprint, test.fingerprint, member.plan, seeds, member.info.get("origin"), epochs, mode, settings)
    parts = ResumableParts(member.study.experiment.seed_folder(member.seed_id) / "unrolled_parts", repr(made_of))
    pieces = _pieces(unrolling, counts[mode])
    derivative = {"forward": _forward, "backward": _backward}[mode]
    steps = len(pieces) * (max(run.snapshots) if mode == "forward" else sum(run.snapshots))
    alone = train.device.type == "cuda" or not unrolling.differentiate.layered
    freed = FreedMemory()
    with tqdm(total=steps, desc=f"unrolling seed {member.seed_id}", unit="step", delay=2, leave=False) as bar:

        def stepped() -> None:
            bar.update()
            freed.give_back()

        def compute(number: int) -> dict[str, Tensor]:
            return parts.result(pieces[number], lambda: derivative(_own(unrolling, stepped), members, pieces[number]))

        found = list(map(compute, range(len(pieces))) if alone else in_order(compute, len(pieces)))
    derivatives = torch.cat([each["derivatives"] for each in found], dim=1 if mode == "forward" else 2)
    for number in map(members.index, given):
        report = {"mode": mode}
        if weights is None:
            report["distance_to_checkpoint"] = max(float(each["distances"][number]) for each in found)
        yield Attribution(_QUANTITIES[settings["quantity"]] * derivatives[number], report)
    parts.remove(pieces)


def _mode(wanted: str, forward: int, backward: int, snapshots: Sequence[int]) -> str:
    """The mode that costs less, unless one is wanted; forward, backward: how often each goes through every step."""
    if wanted != "auto":
        return wanted
    return "forward" if forward * max(snapshots) <= backward * sum(snapshots) else "backward"


def _pieces(unrolling: Unrolling, count: int) -> list[Tensor]:
    """Numbers 0 to count - 1 in parts of about one size, whose states fit the memory for every thread that works at once."""
    training = unrolling.training
    on_cpu, layered = training.train.device.type == "cpu", unrolling.differentiate.layered
    threads = torch.get_num_threads() if layered and on_cpu else 1
    size = sum(parameter.numel() * parameter.element_size() for parameter in trained_parameters(training.model).values())
    copies = 3 if training.plan.momentum is not None else 4
    at_most = _LARGEST_SLOW_PART if on_cpu and not layered else _LARGEST_PART
    if unrolling.differentiate.gauss_newton:
        at_most = count
    largest = max(1, min(at_most, unrolling.memory // (copies * size * threads)))
    rounds = -(-count // (largest * threads))
    return list(torch.arange(count).tensor_split(min(count, rounds * threads)))


def _own(unrolling: Unrolling, stepped: Callable[[], object]) -> Unrolling:
    """The same with a model of its own, for a thread."""
    training = unrolling.training
    own = Training(copy.deepcopy(training.model), training.plan, training.objective, training.run, training.train)
    return replace(
        Unrolling.of(own, unrolling.test, unrolling.quantity, unrolling.memory, unrolling.differentiate.gauss_newton),
        stepped=stepped,
    )


def _forward(unrolling: Unrolling, members: list[Member], part: Tensor) -> dict[str, Tensor]:
    derivatives, distances = [], []
    for member, (_, found) in zip(members, unrolling.forwards(part.tolist()), strict=True):
        derivatives.append(found)
        distances.append(_distance(unrolling, member))
    return {"derivatives": torch.stack(derivatives), "distances": torch.tensor(distances)}


def _backward(unrolling: Unrolling, members: list[Member], part: Tensor) -> dict[str, Tensor]:
    derivatives, distances = [], []
    for member, snapshot in zip(members, unrolling.training.run.snapshots, strict=True):
        found = unrolling.backwards(
            snapshot, unrolling.test[part], lambda member=member: distances.append(_distance(unrolling, member))
        )
        derivatives.append(found.T)
    return {"derivatives": torch.stack(derivatives), "distances": torch.tensor(distances)}


def _distance(unrolling: Unrolling, member: Member) -> float:
    """The largest difference of a parameter, as it is now, from the member's checkpoint."""
    parameters = trained_parameters(unrolling.training.model)
    return max(
        float((parameter.detach().cpu() - member.state.parameters[name]).abs().max()) for name, parameter in parameters.items()
    )
