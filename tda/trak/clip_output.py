"""TRAK's output function for pairs of image and text (Park et al., ICML 2023, section 5.1)."""

from collections.abc import Callable, Iterable, Sequence
from inspect import signature

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.system.errors import UserError
from tda.system.inputs import called_with
from tda.system.random_streams import stream
from tda.trak.abstract_output import AbstractModelOutput
from tda.trak.identities import tensors_identity
from tda.trak.refusals import AssertedError


class CLIPModelOutput(AbstractModelOutput):
    """Batches (images, texts) of a model of the library open_clip, or a CLIPModel of transformers.

    The former is called as model(image=..., text=...) -> (image embeddings, text embeddings, temperature), or a dict of them.
    Other pairs of a simulated batch stand for the negatives: call get_embeddings before featurizing. They are drawn once, so
    that an example's output and Q do not depend on when, or in whose company, it is computed.
    """

    def __init__(self, temperature: float | None = None, simulated_batch_size: int = 300) -> None:
        """temperature: multiplies the similarities in Q, by default the model's own."""
        super().__init__()
        self.temperature = temperature
        self.sim_batch_size = simulated_batch_size
        self._simulated: tuple[Tensor, Tensor] | None = None

    part_names = (("image", "text"), ("pixel_values", "input_ids"))
    """Names by which a batch may hold its images and texts."""

    @property
    def image_embeddings(self) -> Tensor | None:
        """Those of the simulated batch (j, d), None before get_embeddings."""
        return self._simulated and self._simulated[0]

    @property
    def text_embeddings(self) -> Tensor | None:
        """The same of the texts."""
        return self._simulated and self._simulated[1]

    def state_identity(self) -> str:
        """Hash of the simulated batch, on which every row depends."""
        return tensors_identity(self._simulated or ())

    def get_embeddings(
        self,
        model: nn.Module,
        loader: Iterable[Sequence[Tensor]],
        batch_size: int,
        embedding_dim: int,
        size: int = 50_000,
        preprocess_fn_img: Callable[[object], Tensor] | None = None,
        preprocess_fn_txt: Callable[[object], Tensor] | None = None,
    ) -> None:
        """Embed up to `size` pairs of the loader's batches and draw the simulated batch from them.

        batch_size: not needed, for batches know their size; embedding_dim: checked. Raises UserError if the embeddings have
        another dimension, or there are none.
        """
        embeddings, count = [], 0
        place = next(model.parameters()).device
        with torch.no_grad():
            for images, texts in loader:
                images = images if preprocess_fn_img is None else preprocess_fn_img(images)
                texts = texts if preprocess_fn_txt is None else preprocess_fn_txt(texts)
                embeddings.append(_embedded(model, None, images.to(place), texts.to(place))[:2])
                count += len(images)
                if count >= size:
                    break
        if not embeddings:
            raise UserError("the loader given to get_embeddings holds no pair; give one of images and texts")
        images, texts = (torch.cat(side)[:size] for side in zip(*embeddings, strict=True))
        if images.shape[1] != embedding_dim:
            raise UserError(f"the model's embeddings have {images.shape[1]} dimensions; set embedding_dim to that")
        chosen = torch.randperm(len(images), generator=stream(0, "simulated batch"))[: self.sim_batch_size].to(place)
        self._simulated = images[chosen], texts[chosen]

    def get_output(self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], *example: Tensor) -> Tensor:
        """-log sum_j exp(-x . (y - y_j)) - log sum_j exp(-y . (x - x_j)), the j in the simulated batch (section 5.1)."""
        own, others, _ = self._similarities(model, weights, buffers, [tensor[None] for tensor in example])
        return -sum(torch.logsumexp(other - own, dim=1) for other in others).sum()

    def get_out_to_loss_grad(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Sequence[Tensor]
    ) -> Tensor:
        """1 - p, p being the mean of the probabilities of text given image and image given text in the simulated batch."""
        own, others, returned = self._similarities(model, weights, buffers, batch)
        scale = returned if self.temperature is None else self.temperature
        return 1 - sum(functional.softmax(scale * torch.cat([own, other], dim=1), dim=1)[:, 0] for other in others) / 2

    def _similarities(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor], Tensor | float]:
        """Similarities (n, 1) within n pairs, those (n, j) with the simulated texts and images, and their scale."""
        if self._simulated is None:
            raise AssertedError(
                "Run traker.task.get_embeddings first before featurizing: the simulated batch is missing; "
                "call traker.task.get_embeddings(...)"
            )
        image, text, scale = _embedded(model, (weights, buffers), *batch)
        images, texts = self._simulated
        others = [image @ texts.to(image).T, text @ images.to(image).T]
        return (image * text).sum(dim=1, keepdim=True), others, scale


def _embedded(
    model: nn.Module, weights: tuple[dict[str, Tensor], ...] | None, images: Tensor, texts: Tensor
) -> tuple[Tensor, Tensor, Tensor | float]:
    """Embeddings (n, d) of images and texts, and the scale of their similarities."""
    names = signature(model.forward).parameters
    keywords = ("pixel_values", "input_ids") if {"pixel_values", "input_ids"} <= set(names) else ("image", "text")
    inputs = dict(zip(keywords, (images, texts), strict=True))
    output = model(**inputs) if weights is None else called_with(model, weights, (), inputs)
    if isinstance(output, tuple | list):
        return tuple(output[:3])
    # Both kinds of names are those of dicts; a ModelOutput of transformers is one.
    image, text = (
        output[f"{what}_features"] if f"{what}_features" in output else output[f"{what}_embeds"] for what in ("image", "text")
    )
    return image, text, output["logit_scale"] if "logit_scale" in output else _own_scale(model, weights)


def _own_scale(model: nn.Module, weights: tuple[dict[str, Tensor], ...] | None) -> Tensor | float:
    """exp of the model's parameter logit_scale, 1 where there is none."""
    parameters = dict(model.named_parameters()) if weights is None else weights[0]
    found = [value for name, value in parameters.items() if name.rpartition(".")[2] == "logit_scale"]
    return found[0].exp() if found else 1.0
