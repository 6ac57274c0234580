"""The named tasks: what f and Q are for classifiers, regressions, language models and pairs of image and text."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.gradients.objectives import NextToken
from tda.gradients.quantities import margin
from tda.system.errors import UserError
from tda.system.inputs import Inputs, parts_of
from tda.trak.abstract_output import AbstractModelOutput, LogitsModelOutput
from tda.trak.clip_output import CLIPModelOutput
from tda.trak.refusals import UnknownNameError

__all__ = ["AbstractModelOutput", "CLIPModelOutput", "TASK_TO_MODELOUT", "task_output"]

_TEXT = {1: ("input_ids",), 2: ("input_ids", "attention_mask"), 3: ("input_ids", "token_type_ids", "attention_mask")}
_IGNORED = -100
"""The label of a token that does not count."""


class ImageClassificationModelOutput(LogitsModelOutput):
    """Batches (images (n, c, h, w), labels (n,) or (n, 1) of classes 0 to C - 1) of a model with logits (n, C), C > 1.

    f is the margin log(p / (1 - p)) of the label, Q is 1 - p.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        """temperature: divides the logits in Q, not in the margin."""
        super().__init__()
        self.loss_temperature = temperature
        self.softmax = nn.Softmax(-1)

    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The margin log(p / (1 - p)) of the label."""
        # A label that is no class has no margin: where require_labels is not asked, no finite number may come out.
        return margin(logits, labels).where((labels >= 0) & (labels < logits.shape[1]), torch.nan)

    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """1 - p of the label."""
        return torch.sigmoid(-self.quantity(logits / self.loss_temperature, labels))

    def require_logits(self, shape: torch.Size) -> None:
        """Logits (n, C) of at least two classes."""
        if len(shape) != 2:
            raise UserError(f"the model's logits are {tuple(shape)}, a classifier's are (n, classes); write a task of your own")
        if shape[1] < 2:
            raise UserError('the model has a single logit; use task="binary_classification", or "regression" for a number')

    def require_labels(self, labels: Tensor, classes: int) -> None:
        """Classes from 0."""
        _require_classes(labels, (labels < 0) | (labels >= classes), classes)

    def arranged_labels(self, labels: Tensor) -> Tensor:
        """(n,) int64."""
        return _whole(_one_each(labels, "class"))


class TextClassificationModelOutput(ImageClassificationModelOutput):
    """The same for batches (input_ids, token_type_ids, attention_mask (n, T), labels), of which the middle two may be missing.

    The model is called with them by name.
    """

    keywords = _TEXT


class IterativeImageClassificationModelOutput(ImageClassificationModelOutput):
    """The same, but get_output gives f of a whole batch (n,), of the model as it is: weights and buffers have no effect."""

    batched = True


class BinaryClassificationModelOutput(LogitsModelOutput):
    """A model with one logit z, (n,) or (n, 1), for the class 1, and labels 0 or 1; batches as of images or texts.

    f is the log-odds log(p / (1 - p)) of the label, z or -z, and Q is 1 - p.
    """

    keywords = {1: (), 2: _TEXT[2], 3: _TEXT[3]}

    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """z for the class 1, -z for the class 0."""
        return (2 * labels.to(logits) - 1) * logits.reshape(len(labels))

    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """1 - p of the label."""
        return torch.sigmoid(-self.quantity(logits, labels))

    def require_logits(self, shape: torch.Size) -> None:
        """One logit for each example."""
        _require_one_output(shape, "a binary classifier's logits", 'use task="image_classification" or "text_classification"')

    def require_labels(self, labels: Tensor, classes: int) -> None:
        """0 or 1."""
        _require_classes(labels, (labels < 0) | (labels > 1), 2)

    def arranged_labels(self, labels: Tensor) -> Tensor:
        """(n,) int64, from floating 0 and 1 too."""
        labels = _one_each(labels, "class 0 or 1")
        # As binary_cross_entropy takes them; a fraction becomes a number that require_labels refuses.
        return torch.where(labels.frac() == 0, labels, 2).long() if labels.is_floating_point() else labels.long()


class RegressionModelOutput(LogitsModelOutput):
    """A model with one prediction, (n,) or (n, 1), and numbers as labels; batches as of images or texts.

    f is the prediction and the loss L = (f - y)^2 / 2, so that Q = -dL/df = y - f, of either sign: a positive score means
    that the training example raises the target's prediction, which helps where the prediction is too low.
    """

    keywords = BinaryClassificationModelOutput.keywords

    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The prediction."""
        return logits.reshape(len(labels))

    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The label less the prediction."""
        return labels.to(logits) - logits.reshape(len(labels))

    def require_logits(self, shape: torch.Size) -> None:
        """One prediction for each example."""
        _require_one_output(shape, "a regression's predictions", "choose one of them in a task of your own")

    def arranged_labels(self, labels: Tensor) -> Tensor:
        """(n,), of any dtype."""
        return _one_each(labels, "number")


class CausalLanguageModelOutput(LogitsModelOutput):
    """Batches (input_ids, attention_mask, labels (n, T)); a label is the token at its own position, or -100 where none counts.

    f is the mean over the counted tokens of the margin log(p / (1 - p)) of each given those before it, Q the mean of 1 - p.
    """

    keywords = {1: _TEXT[1], 2: _TEXT[2]}

    def split(self, batch: list[Tensor] | dict[str, Tensor]) -> tuple[Inputs, Tensor]:
        """A label for each token."""
        inputs, labels = super().split(batch)
        tokens = next(iter(parts_of(inputs))).shape[:2]
        if tokens != labels.shape:
            given = f"the labels are {tuple(labels.shape)} and the tokens {tuple(tokens)}"
            otherwise = "for one of encoder and decoder choose the task sequence_to_sequence"
            raise UserError(f"{given}; give a label, or -100, for each token ({otherwise})")
        return inputs, labels

    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean margin of the tokens."""
        return NextToken().margin(logits, labels)

    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean 1 - p of the tokens."""
        return NextToken().surprise(logits, labels).to(logits)

    def require_logits(self, shape: torch.Size) -> None:
        """Logits (n, T, V)."""
        if len(shape) != 3:
            raise UserError(f"the model's logits are {tuple(shape)}, a language model's are (n, tokens, vocabulary)")

    def require_labels(self, labels: Tensor, classes: int) -> None:
        """Tokens of the vocabulary, or -100."""
        _require_classes(labels, ((labels < 0) & (labels != _IGNORED)) | (labels >= classes), classes, "tokens, or -100")

    def arranged_labels(self, labels: Tensor) -> Tensor:
        """(n, T) int64."""
        if labels.dim() != 2:
            raise UserError(f"the labels are {tuple(labels.shape)}; a language model's are (n, tokens)")
        return _whole(labels)


class SequenceToSequenceModelOutput(CausalLanguageModelOutput):
    """Batches (input_ids, attention_mask (n, S), labels (n, T)) of a model that is called with all of them by name, as T5 is.

    It shifts the labels itself, so that its logits at position t are for the label at t. f and Q are means over the labels
    other than -100 of the margin and of 1 - p of each token given the source and those before it.
    """

    def split(self, batch: list[Tensor] | dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The labels are inputs too, as many as the answer has tokens."""
        inputs, labels = super(CausalLanguageModelOutput, self).split(batch)
        return {**inputs, "labels": labels}, labels

    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean margin of the tokens."""
        return super().quantity(*_moved_on(logits, labels))

    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean 1 - p of the tokens."""
        return super().reweighting(*_moved_on(logits, labels))


def _moved_on(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, T + 1, V) and labels (n, T + 1) as of a model whose logits at t are for the label at t + 1."""
    return functional.pad(logits, (0, 0, 0, 1)), functional.pad(labels, (1, 0), value=_IGNORED)


def _one_each(labels: Tensor, what: str) -> Tensor:
    if labels.dim() == 2 and labels.shape[1] == 1:
        return labels.squeeze(1)
    if labels.dim() != 1:
        raise UserError(f"the labels are {tuple(labels.shape)}; each example has one, a {what}, (n,)")
    return labels


def _whole(labels: Tensor) -> Tensor:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UserError(f"the labels are {str(labels.dtype).removeprefix('torch.')}; classes are whole numbers, such as int64")
    return labels.long()


def _require_one_output(shape: torch.Size, what: str, otherwise: str) -> None:
    if len(shape) not in (1, 2) or shape.numel() != shape[0]:
        raise UserError(f"the model's output is {tuple(shape)}, {what} are (n,) or (n, 1); {otherwise}")


def _require_classes(labels: Tensor, wrong: Tensor, classes: int, what: str = "classes") -> None:
    if wrong.any():
        position = wrong.reshape(len(labels), -1).any(dim=1).nonzero()[0].item()
        raise UserError(
            f"a label of example {position} of the batch is {labels[wrong][0].item()}, but the model knows {what} from 0 to "
            f"{classes - 1}; count labels from 0"
        )


TASK_TO_MODELOUT: dict[str, type[AbstractModelOutput]] = {
    "image_classification": ImageClassificationModelOutput,
    "text_classification": TextClassificationModelOutput,
    "binary_classification": BinaryClassificationModelOutput,
    "regression": RegressionModelOutput,
    "language_modeling": CausalLanguageModelOutput,
    "sequence_to_sequence": SequenceToSequenceModelOutput,
    "clip": CLIPModelOutput,
    "iterative_image_classification": IterativeImageClassificationModelOutput,
}


def task_output(task: "AbstractModelOutput | type[AbstractModelOutput] | str") -> AbstractModelOutput:
    """The model output of a task's name, or the given one; raises UserError for another name or object."""
    # A program may subclass the class of the same name elsewhere: what counts is that both methods are there.
    if callable(getattr(task, "get_output", None)) and callable(getattr(task, "get_out_to_loss_grad", None)):
        return _made(task) if isinstance(task, type) else task
    if not isinstance(task, str) or task not in TASK_TO_MODELOUT:
        names = ", ".join(TASK_TO_MODELOUT)
        raise UnknownNameError(f"unknown task {task!r}; choose one of {names}, or give an AbstractModelOutput")
    return TASK_TO_MODELOUT[task]()


def _made(task: type[AbstractModelOutput]) -> AbstractModelOutput:
    try:
        return task()
    except TypeError as error:
        raise UserError(f"{task.__name__} cannot be made of its class alone ({error}); give the task as an object") from error
