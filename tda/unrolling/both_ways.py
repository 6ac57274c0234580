"""Differentiation of a trained model by every example's weight, through every step of its training: forwards and backwards.

A training leads from its start to its parameters by steps, and an example's weight enters those whose batch holds it. Forwards,
tangents of the examples' weights follow the steps and serve every epoch that they pass (Hara, Nitanda and Maehara 2019, whose
derivative is the same for SGD). Backwards, adjoints of the test examples' quantities go from an epoch to the start and meet
every example on their way (Maclaurin, Duvenaud and Adams 2015; Engstrom et al. 2025; Ilyas and Engstrom 2025).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.curvature.batch_derivatives import BatchDerivatives, Differentiator
from tda.curvature.batch_statistics import momenta, open_normalisation
from tda.curvature.inverses import times_vectors
from tda.curvature.weighted_batch import WeightedBatch
from tda.data.splits import Split
from tda.gradients.quantities import Quantity
from tda.models.model_state import trained_parameters
from tda.system.inputs import call, chosen
from tda.system.padding import without_padding
from tda.training.step_derivatives import Movement, Values, still
from tda.training.taken_steps import TakenStep, Training
from tda.unrolling.reversed_training import ReversedTraining

# Test examples, and tangents, in one forward pass of a model with running statistics.
_TESTS_AT_ONCE, _TANGENTS_AT_ONCE = 64, 24


@dataclass(frozen=True)
class Unrolling:
    """The derivative of one training.

    quantity: of test examples, from logits and labels; memory: bytes that the states of a training may take; stepped: called
    after each training step that is differentiated.
    """

    training: Training
    differentiate: Differentiator
    test: Split
    quantity: Quantity
    memory: int
    stepped: Callable[[], object] = lambda: None

    @staticmethod
    def of(training: Training, test: Split, quantity: Quantity, memory: int, gauss_newton: bool = False) -> "Unrolling":
        """gauss_newton: every step's curvature is that matrix, which lets the derivative be one of linearised steps.

        Raises UserError for a model whose running statistics cannot be differentiated.
        """
        momenta(training.model)
        return Unrolling(training, Differentiator(training.model, gauss_newton), test, quantity, memory)

    def forwards(self, positions: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield at each snapshot of the run its step and d quantity / d weight (m, n_test) of the training positions (m,)."""
        training, model = self.training, self.training.model
        moved = still(_values(model), training.plan, len(positions))
        statistics = _still_statistics(model, len(positions))
        wanted, row_of = set(positions), {}
        for step in training.steps():
            # Rows are taken in the order in which their examples first come: those of the others are zero and need no products.
            places = {position: place for place, position in enumerate(step.batch.tolist()) if position in wanted}
            rows = {row_of.setdefault(position, len(row_of)): place for position, place in places.items()}
            if row_of:
                self._follow(step, moved, statistics, rows, len(row_of))
            self.stepped()
            if step.number in training.run.snapshots:
                order = list(row_of) + [position for position in positions if position not in row_of]
                row_after = {position: row for row, position in enumerate(order)}
                found = self._along(moved.parameters, statistics)
                yield step.number, found[[row_after[position] for position in positions]]

    def backwards(self, snapshot: int, tests: Split, arrived: Callable[[], None] = lambda: None) -> Tensor:
        """d quantity / d weight (n_test, n_train) of test examples for the model after `snapshot` steps.

        arrived: called once the model is that model. Raises UserError if the states of the training do not fit the memory.
        """
        training = self.training
        taken = ReversedTraining(training, snapshot, self.memory)
        arrived()
        moved, statistics = self._slopes(tests)
        derivatives = torch.zeros(len(tests), len(training.train)).to(next(iter(moved.parameters.values())))
        for step in taken.backwards():
            batch = self._batch(step)
            slopes = step.derivative(training.plan, batch.gradient).backward(moved)
            found = derivatives.new_empty(len(tests), len(step.batch))
            for rows in _slices(len(tests), batch.at_once):
                part = {name: slope[rows] for name, slope in slopes.items()}
                products, found[rows], _ = batch.products(part)
                for name, product in products.items():
                    moved.parameters[name][rows] += product
            if statistics:
                self._pull_back_statistics(batch, moved, statistics)
            derivatives.index_add_(1, step.batch.to(derivatives.device), found / len(step.batch))
            self.stepped()
        return derivatives

    def _batch(self, step: TakenStep) -> BatchDerivatives:
        training, model, train = self.training, self.training.model, self.training.train
        model.train(step.noise is not None)
        # Cut as the step itself cuts them: dropout draws for each place.
        inputs, labels = without_padding(chosen(train.inputs, step.batch), train.labels[step.batch])
        surroundings = nullcontext
        if step.noise is not None:
            inputs = step.noise.cropped(inputs)
            # The derivative is taken in full precision whatever the step computed in.
            surroundings = partial(replace(step.noise, mixed_precision=False).applied_to, model, train.device)
        weights = training.run.weights
        counted = torch.ones(len(step.batch), device=train.device) if weights is None else weights[step.batch]
        factors = counted.to(next(iter(step.before.values())).dtype) / len(step.batch)
        batch = WeightedBatch(training.objective, inputs, labels, factors, step.before, surroundings, step.gradient)
        return self.differentiate(batch)

    def _follow(self, step: TakenStep, moved: Movement, statistics: Values, entering: dict[int, int], begun: int) -> None:
        """Carry tangents over one step; begun: first rows, which have begun; entering: those in the batch, and where."""
        training, batch = self.training, self._batch(step)
        derivative = step.derivative(training.plan, batch.gradient)
        own = batch.example_gradients() if entering else {}
        for rows in _slices(begun, batch.at_once):
            part = _rows_of(moved, rows)
            slopes, _, changes = batch.products(part.parameters)
            for row, place in entering.items():
                if rows.start <= row < rows.stop:
                    weight = 1 if training.run.weights is None else training.run.weights[step.batch[place]]
                    for name, gradient in own.items():
                        slopes[name][row - rows.start] += gradient[place] / weight
            derivative.forward(part, slopes)
            for name, momentum in momenta(training.model).items():
                statistics[name][rows].mul_(1 - momentum).add_(changes[name], alpha=momentum)

    def _along(self, tangents: Values, statistics: Values) -> Tensor:
        """Derivatives (m, n_test) of the test examples' quantity along tangents of the model as it is now."""
        model = self.training.model.eval()
        if not statistics:
            return times_vectors(model, self.quantity, self.test, tangents)
        values = _values(model) | {name: model.get_buffer(name).detach() for name in statistics}
        found = []
        for inputs, labels in self.test.batches(_TESTS_AT_ONCE):

            def quantity(values: Values, inputs=inputs, labels=labels) -> Tensor:
                return self.quantity(call(model, inputs, values), labels)

            def along(tangent: Values, quantity=quantity) -> Tensor:
                return jvp(quantity, (values,), (tangent,))[1]

            with sdpa_kernel(SDPBackend.MATH), open_normalisation(model):
                found.append(vmap(along, chunk_size=_TANGENTS_AT_ONCE)(tangents | statistics))
        return torch.cat(found, dim=1)

    def _slopes(self, tests: Split) -> tuple[Movement, Values]:
        """Adjoints of the test examples' quantity at the model as it is now, and those of its running statistics."""
        training = self.training
        model, names = training.model.eval(), momenta(training.model)
        values = _values(model) | {name: model.get_buffer(name).detach() for name in names}
        moved = still(_values(model), training.plan, len(tests))
        statistics = _still_statistics(model, len(tests))
        for row in range(len(tests)):
            inputs, labels = chosen(tests.inputs, slice(row, row + 1)), tests.labels[row : row + 1]

            def quantity(values: Values, inputs=inputs, labels=labels) -> Tensor:
                return self.quantity(call(model, inputs, values), labels).sum()

            with sdpa_kernel(SDPBackend.MATH), open_normalisation(model):
                slopes = grad(quantity)(values)
            for name, slope in slopes.items():
                (statistics if name in names else moved.parameters)[name][row] = slope
        return moved, statistics

    def _pull_back_statistics(self, batch: BatchDerivatives, moved: Movement, statistics: Values) -> None:
        momentum_of = momenta(self.training.model)
        for rows in _slices(len(next(iter(statistics.values()))), batch.at_once):
            adjoints = {name: momentum_of[name] * each[rows] for name, each in statistics.items()}
            for name, product in batch.pulled_back(adjoints).items():
                moved.parameters[name][rows] += product
        for name, each in statistics.items():
            each.mul_(1 - momentum_of[name])


def _values(model: nn.Module) -> Values:
    return {name: parameter.detach() for name, parameter in trained_parameters(model).items()}


def _still_statistics(model: nn.Module, count: int) -> Values:
    return {name: model.get_buffer(name).new_zeros(count, *model.get_buffer(name).shape) for name in momenta(model)}


def _rows_of(moved: Movement, rows: slice) -> Movement:
    remembered = {
        quantity: {name: each[rows] for name, each in values.items()} for quantity, values in moved.remembered.items()
    }
    return Movement({name: each[rows] for name, each in moved.parameters.items()}, remembered)


def _slices(count: int, size: int) -> Iterator[slice]:
    """0 to count - 1 in as few parts of at most `size` as can be, of about one length."""
    parts = -(-count // size)
    return (slice(part * count // parts, (part + 1) * count // parts) for part in range(parts))
