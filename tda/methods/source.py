"""SOURCE: the derivative through the training, with curvature and gradients constant in each of a few segments.

A training example's weight acts in every step that it takes part in, and every later step carries the change on. In a segment
of K steps at rate eta with gradient g, curvature H and the optimizer's diagonal P (of SGD 1), the weight's effect on the
parameters at its end is F(PH) P g / n, F(s) = (1 - exp(-eta K s)) / s, and a change from before is multiplied by
exp(-eta K P H) (Bae et al. 2024, section 3 and its extension to other optimizers). With one segment and endless steps that is
the influence function; with few steps the directions that training did not reach are damped.

P is taken as constant in a segment: its own change with the weights, and momentum's start, are left out. H is the
Gauss-Newton matrix. Weight decay is curvature as well, and is counted for SGD. Adam divides the decay's gradient by P too, and
a parameter that only decays then moves by its sign, whatever its size: that is no contraction, and the decay is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tda.curvature.inverses import blocks_of_gradients, times_vectors
from tda.curvature.matrix_functions import MatrixFunctions, by_entries, by_kernel, by_layers
from tda.curvature.products import flatten, unflatten
from tda.data.splits import Split
from tda.methods.registry import Attribution, one_after_another, register
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.training.earlier_checkpoints import check_early_checkpoints, checkpoint_of, epochs_before
from tda.training.members import Member, roots_of_example
from tda.training.preconditioners import preconditioner
from tda.training.segments import Segment, segments
from tda.training.study import Study

# Above so many parameters, or bytes of curvature rows, the exact curvature's eigenvectors cost more than all else.
PARAMETER_LIMIT = 4000
ROW_BYTES = 2**28

# Vectors of parameter length that are held at once, in bytes; each lot passes over the other side's examples anew.
_VECTOR_BYTES = 2**28


def _check(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    check_early_checkpoints(study, seed_ids, settings)
    epochs = epochs_before(study, settings["early_epochs"], study.plan.kept_epochs[0])
    segments(study.plan, len(study.train), [*epochs, study.plan.kept_epochs[0]], settings["num_segments"])


@register(
    "source",
    "SOURCE",
    "Bae et al. 2024",
    check=_check,
    needs="checkpoints of early epochs (--early_epochs of the training script)",
    in_all=False,
    num_segments=3,
    early_epochs="",
    curvature="auto",
    damping=None,
)
@one_after_another
def source(
    member: Member,
    train: Split,
    test: Split,
    num_segments: int,
    early_epochs: str,
    curvature: str,
    damping: float | None,
) -> Attribution:
    """Rise of each test loss, in nats, that each training example's absence from the whole training would cause.

    num_segments: into how many the training is cut; early_epochs: such as "1,2,5", by default those that the training plan
    keeps, used with the kept epochs up to the member's; curvature: "gauss_newton", exactly, "ekfac", or "auto": the exact one
    where it is small; damping: added to every eigenvalue of P H, by default SGD's weight decay, and 0 for Adam. The report
    holds the segments. Raises UserError for missing checkpoints, fewer than segments, an unknown curvature, a negative damping,
    or, by EK-FAC, a model without linear layers.
    """
    if curvature not in ("auto", "gauss_newton", "ekfac"):
        raise UserError(f"unknown curvature {curvature}; known ones are auto, ekfac, gauss_newton")
    if damping is not None and damping < 0:
        raise UserError(f"the damping of source must be 0 or more, not {damping}")
    plan = member.plan
    kept = [epoch for epoch in plan.kept_epochs if epoch <= member.epoch]
    epochs = [*epochs_before(member.study, early_epochs, member.epoch), *kept, member.epoch]
    added = (0.0 if plan.momentum is None else plan.weight_decay) if damping is None else damping
    cut = segments(plan, len(train), epochs, num_segments)
    exact = curvature == "gauss_newton" or (curvature == "auto" and _exact_is_small(member, train, cut))
    trajectory = _Trajectory(member, train, cut, exact, added)
    scores = trajectory.by_train(test) if len(train) <= len(test) else trajectory.by_test(test)
    report = {
        "curvature": "Gauss-Newton, exact" if exact else "EK-FAC",
        "segments": [vars(segment) | {"epochs": list(segment.epochs)} for segment in cut],
        "parameters_left_out": trajectory.left_out,
    }
    return Attribution(scores, report)


def _exact_is_small(member: Member, train: Split, cut: list[Segment]) -> bool:
    parameters = sum(map(Tensor.numel, member.state.parameters.values()))
    rows = roots_of_example(member, train) * len(train) * max(len(segment.epochs) for segment in cut)
    itemsize = next(iter(member.state.parameters.values())).element_size()
    return parameters <= PARAMETER_LIMIT or rows * parameters * itemsize <= ROW_BYTES


@dataclass(frozen=True)
class _Stretch:
    """A segment with its checkpoints and its curvature."""

    members: list[Member]
    functions: MatrixFunctions
    time: float
    damping: float

    def decayed(self, values: Tensor) -> Tensor:
        """exp(-t s)."""
        return torch.exp(-self.time * (values + self.damping))

    def response(self, values: Tensor) -> Tensor:
        """(1 - exp(-t s)) / s, which is t at 0."""
        values = values + self.damping
        positive = values > 0
        return torch.where(positive, -torch.expm1(-self.time * values) / torch.where(positive, values, 1), self.time)

    def carried(self, changes: Tensor) -> Tensor:
        """Changes (k, p) of the parameters at the segment's start, as they are at its end."""
        root = self.functions.root
        if root is None:
            return self.functions.apply(self.decayed, changes)
        return self.functions.apply(self.decayed, changes / root) * root

    def carried_back(self, slopes: Tensor) -> Tensor:
        """Derivatives (k, p) by the parameters at the segment's end, as those by the parameters at its start."""
        root = self.functions.root
        if root is None:
            return self.functions.apply(self.decayed, slopes)
        return self.functions.apply(self.decayed, slopes * root) / root

    def caused(self, gradients: Tensor) -> Tensor:
        """n times the change at the segment's end that taking out examples of these gradients (k, p) in it causes."""
        root = self.functions.root
        if root is None:
            return self.functions.apply(self.response, gradients)
        return self.functions.apply(self.response, gradients * root) * root


class _Trajectory:
    """The segments of one member's training, fitted once each where several lots of vectors need them."""

    def __init__(self, member: Member, train: Split, cut: list[Segment], exact: bool, damping: float) -> None:
        self.member, self.train, self.cut, self.exact, self.damping = member, train, cut, exact, damping
        self.left_out: list[str] = []
        self.held: dict[int, _Stretch] = {}

    def by_train(self, test: Split) -> Tensor:
        """Scores (n_train, n_test) by following every training example's change forwards."""
        lots = self._lots(self.train)
        return torch.cat([self._scores_of_lot(lot, test, hold=len(lots) > 1) for lot in lots]) / len(self.train)

    def by_test(self, test: Split) -> Tensor:
        """The same by following every test loss's derivative backwards."""
        lots, model = self._lots(test), self.member.model
        columns = []
        for lot in lots:
            slopes, scores = _gradients([self.member], lot), 0.0
            for number in reversed(range(len(self.cut))):
                stretch = self._stretch(number, hold=len(lots) > 1)
                vectors = unflatten(stretch.caused(slopes), model)
                terms = [times_vectors(each.model, each.objective.loss, self.train, vectors) for each in stretch.members]
                scores = scores + sum(terms) / len(terms)
                slopes = stretch.carried_back(slopes)
            columns.append(scores)
        return torch.cat(columns).T / len(self.train)

    def _scores_of_lot(self, lot: Split, test: Split, hold: bool) -> Tensor:
        changes = None
        for number in range(len(self.cut)):
            stretch = self._stretch(number, hold)
            new = stretch.caused(_gradients(stretch.members, lot))
            changes = new if changes is None else stretch.carried(changes) + new
        model = self.member.model
        return times_vectors(model, self.member.objective.loss, test, unflatten(changes, model))

    def _lots(self, split: Split) -> list[Split]:
        parameters = self.member.state.parameters.values()
        at_once = max(1, _VECTOR_BYTES // sum(part.numel() * part.element_size() for part in parameters))
        return [split[positions] for positions in torch.arange(len(split)).split(at_once)]

    def _stretch(self, number: int, hold: bool) -> _Stretch:
        if number in self.held:
            return self.held[number]
        segment = self.cut[number]
        members = [checkpoint_of(self.member, epoch) for epoch in segment.epochs]
        stretch = _Stretch(members, self._functions(members), segment.rates, self.damping)
        if hold:
            self.held[number] = stretch
        return stretch

    def _functions(self, members: list[Member]) -> MatrixFunctions:
        models, objective, train = [each.model for each in members], self.member.objective, self.train
        diagonal = _mean_preconditioner(members)
        if not self.exact:
            functions = by_layers(models, objective, train, diagonal)
            self.left_out = functions.left_out
            return functions
        root = None if diagonal is None else flatten({name: part[None] for name, part in diagonal.items()})[0].sqrt()
        rows = roots_of_example(members[0], train) * len(train) * len(members)
        parameters = sum(map(Tensor.numel, self.member.state.parameters.values()))
        fit = by_kernel if rows <= parameters else by_entries
        return fit(models, objective, train, root)


def _gradients(members: list[Member], split: Split) -> Tensor:
    """Mean over checkpoints of the examples' loss gradients (n, p)."""
    found = [
        torch.cat([rows.dense() for rows in blocks_of_gradients(each.model, each.objective.loss, split)]) for each in members
    ]
    return sum(found) / len(found)


def _mean_preconditioner(members: list[Member]) -> dict[str, Tensor] | None:
    """The optimizer's diagonal, averaged over checkpoints, on their device, in the model's order of parameters."""
    each = [preconditioner(member.plan, member.state) for member in members]
    if each[0] is None:
        return None
    device = members[0].device
    return {name: (sum(part[name] for part in each) / len(each)).to(device) for name in trained_parameters(members[0].model)}
