"""What TRAK attributes: a number f(z, theta) for each example z, and how much the training loss still moves with it.

In the notation of Park et al. (ICML 2023, sections 3 and 5), get_output is f and get_out_to_loss_grad the diagonal of Q, with
the sign that makes it positive for a falling loss: |d loss / d f|. A positive score then means that the training example
raises f of the target.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from tda.gradients.objectives import NextToken
from tda.gradients.quantities import margin
from tda.system.errors import UserError
from tda.system.inputs import Inputs, call
from tda.system.random_streams import stream


class AbstractModelOutput(ABC):
    """A task of one's own: a subclass with the two methods below."""

    @abstractmethod
    def get_output(self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], *example: Tensor) -> Tensor:
        """f of one example, a scalar. example: the tensors of a batch without their first dimension.

        Call the model by torch.func.functional_call(model, (weights, buffers), ...): the result is differentiated with
        respect to the weights.
        """

    @abstractmethod
    def get_out_to_loss_grad(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Sequence[Tensor]
    ) -> Tensor:
        """Q's diagonal for a batch of examples, (n,) or (n, 1)."""


class LogitsModelOutput(AbstractModelOutput):
    """A task whose output is a function of logits and labels; its gradients are taken layer by layer.

    A subclass says how the model is called (`keywords`), what is attributed (`quantity`) and what Q is (`reweighting`).
    """

    keywords: tuple[str, ...] = ()
    """Keyword arguments of the model that a batch holds before the labels; none for a single positional argument."""

    @abstractmethod
    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """f of each example (n,) from the model's logits (n, ...) and the batch's labels."""

    @abstractmethod
    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Q's diagonal (n,) from the same."""

    def split(self, batch: Sequence[Tensor]) -> tuple[Inputs, Tensor]:
        """The model's inputs, and the labels (n, ...); raises UserError if the batch holds other things."""
        names = self.keywords or ("inputs",)
        if len(batch) != len(names) + 1:
            raise UserError(f"{type(self).__name__} takes batches ({', '.join(names)}, labels), not of {len(batch)} tensors")
        return (dict(zip(names, batch, strict=False)) if self.keywords else batch[0]), batch[-1]

    def get_output(self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], *example: Tensor) -> Tensor:
        """f of one example, a scalar."""
        return self._evaluate(self.quantity, model, weights, buffers, [tensor[None] for tensor in example]).sum()

    def get_out_to_loss_grad(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Sequence[Tensor]
    ) -> Tensor:
        """Q's diagonal (n,)."""
        return self._evaluate(self.reweighting, model, weights, buffers, batch)

    def _evaluate(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        model: nn.Module,
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        batch: Sequence[Tensor],
    ) -> Tensor:
        inputs, labels = self.split(batch)
        return function(call(model, inputs, (weights, buffers)), labels)


class _Classification(LogitsModelOutput):
    def __init__(self, temperature: float = 1.0) -> None:
        """temperature: divides the logits in Q, not in the margin."""
        self.temperature = temperature

    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The margin log(p / (1 - p)) of the label."""
        return margin(logits, labels)

    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """1 - p of the label."""
        return torch.sigmoid(-margin(logits / self.temperature, labels))


class ImageClassificationModelOutput(_Classification):
    """Batches (images (n, c, h, w), labels (n,) int64); the model is called as model(images)."""


class TextClassificationModelOutput(_Classification):
    """Batches (input_ids, token_type_ids, attention_mask (n, T), labels (n,)); the model is called with the first three."""

    keywords = ("input_ids", "token_type_ids", "attention_mask")


class CausalLanguageModelOutput(LogitsModelOutput):
    """Batches (input_ids, attention_mask, labels (n, T)); a label is the token at its own position, or -100 where none counts.

    f is the mean over the counted tokens of the margin log(p / (1 - p)) of each given those before it, Q the mean of 1 - p.
    """

    keywords = ("input_ids", "attention_mask")

    def quantity(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean margin of the tokens."""
        return NextToken().margin(logits, labels)

    def reweighting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean 1 - p of the tokens."""
        return NextToken().surprise(logits, labels).to(logits)


class CLIPModelOutput(AbstractModelOutput):
    """Batches (images, texts) of a model called as model(image=…, text=…) -> (image embeddings, text embeddings, temperature).

    Other pairs of a simulated batch stand for the negatives: call get_embeddings before featurizing. They are drawn once, so
    that an example's output and Q do not depend on when, or in whose company, it is computed.
    """

    def __init__(self, temperature: float | None = None, simulated_batch_size: int = 300) -> None:
        """temperature: multiplies the similarities in Q, by default what the model returns third."""
        self.temperature = temperature
        self.simulated_batch_size = simulated_batch_size
        self.image_embeddings: Tensor | None = None
        self.text_embeddings: Tensor | None = None

    def get_embeddings(
        self,
        model: nn.Module,
        loader: Iterable[Sequence[Tensor]],
        batch_size: int,
        embedding_dim: int,
        size: int = 50_000,
        preprocess_fn_img: Callable[[Tensor], Tensor] | None = None,
        preprocess_fn_txt: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Embed up to `size` pairs of the loader's batches and draw the simulated batch from them.

        batch_size: not needed, for batches know their size; embedding_dim: checked. Raises UserError if the embeddings have
        another dimension.
        """
        embeddings, found = [], 0
        with torch.no_grad():
            for images, texts in loader:
                images = images if preprocess_fn_img is None else preprocess_fn_img(images)
                texts = texts if preprocess_fn_txt is None else preprocess_fn_txt(texts)
                embeddings.append(model(image=images, text=texts)[:2])
                found += len(images)
                if found >= size:
                    break
        images, texts = (torch.cat(side)[:size] for side in zip(*embeddings, strict=True))
        if images.shape[1] != embedding_dim:
            raise UserError(f"the model's embeddings have {images.shape[1]} dimensions; set embedding_dim to that")
        chosen = torch.randperm(len(images), generator=stream(0, "simulated batch"))[: self.simulated_batch_size]
        self.image_embeddings, self.text_embeddings = images[chosen], texts[chosen]

    def get_output(self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], *example: Tensor) -> Tensor:
        """-log sum_j exp(-x . (y - y_j)) - log sum_j exp(-y . (x - x_j)), the j in the simulated batch (section 5.1)."""
        image, text, _ = self._embedded(model, weights, buffers, [tensor[None] for tensor in example])
        own = (image * text).sum(dim=1, keepdim=True)
        others = image @ self.text_embeddings.T, text @ self.image_embeddings.T
        return -sum(torch.logsumexp(other - own, dim=1) for other in others).sum()

    def get_out_to_loss_grad(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Sequence[Tensor]
    ) -> Tensor:
        """1 - p, p being the mean of the probabilities of text given image and image given text in the simulated batch."""
        image, text, returned = self._embedded(model, weights, buffers, batch)
        scale = returned if self.temperature is None else self.temperature
        own = (image * text).sum(dim=1, keepdim=True)
        others = image @ self.text_embeddings.T, text @ self.image_embeddings.T
        return 1 - sum(functional.softmax(scale * torch.cat([own, other], dim=1), dim=1)[:, 0] for other in others) / 2

    def _embedded(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        if self.image_embeddings is None:
            raise UserError("the simulated batch is missing; call traker.task.get_embeddings(...) before featurizing")
        image, text = batch
        return functional_call(model, (weights, buffers), (), {"image": image, "text": text})


TASKS: dict[str, type[AbstractModelOutput]] = {
    "image_classification": ImageClassificationModelOutput,
    "text_classification": TextClassificationModelOutput,
    "clip": CLIPModelOutput,
    "language_modeling": CausalLanguageModelOutput,
}


def task_output(task: "AbstractModelOutput | str") -> AbstractModelOutput:
    """The model output of a task's name, or the given one; raises UserError for another name or object."""
    # A program may subclass the class of the same name elsewhere: what counts is that both methods are there.
    if callable(getattr(task, "get_output", None)) and callable(getattr(task, "get_out_to_loss_grad", None)):
        return task() if isinstance(task, type) else task
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}, or give an AbstractModelOutput")
    return TASKS[task]()
