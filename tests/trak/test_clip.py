"""Pairs of image and text: models that keep their temperature as a parameter of shape (), in every form of output."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_traker import closed_form, combined
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from trak_programs import TARGETS, TRAIN, scores_of

from tda.gradients.projections import Projection
from tda.system.errors import UserError
from tda.trak import projectors
from tda.trak.modelout_functions import CLIPModelOutput, ImageClassificationModelOutput


class Pairs(nn.Module):
    """Embeddings of four dimensions and a scale, as open_clip returns them."""

    def __init__(self, wrapped: Callable[..., object] = lambda image, text, scale: (image, text, scale)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(5, 4), nn.Embedding(9, 4)
        self.logit_scale = nn.Parameter(torch.tensor(1.2))
        self.wrapped = wrapped
        self.double()

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> object:
        image, text = (nn.functional.normalize(part, dim=1) for part in (self.image(image), self.text(text).mean(dim=1)))
        # Its own temperature moves the embeddings too, so that the parameter of shape () has a gradient.
        return self.wrapped(image * self.logit_scale, text, self.logit_scale.exp())


def pairs(count: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 5, generator=generator).double()
    return TensorDataset(images, torch.randint(9, (count, 3), generator=generator))


def prepared(model: nn.Module, data: TensorDataset, dimension: int = 4) -> CLIPModelOutput:
    task = CLIPModelOutput(simulated_batch_size=6)
    task.get_embeddings(model.eval(), [data[:10], data[10:]], batch_size=10, embedding_dim=dimension, size=15)
    return task


@pytest.mark.parametrize("kind", ["sparse", "rademacher"])
def test_a_scale_of_shape_nothing_is_the_closed_form(kind: str, tmp_path: Path):
    model, train, targets = Pairs(), pairs(TRAIN), pairs(TARGETS, 1)
    task, checkpoints = prepared(model, train), [model.state_dict()]
    found = scores_of(model, checkpoints, train, targets, task=task, save_dir=tmp_path, projector=Projection(8, 0, kind))
    torch.testing.assert_close(found, combined(closed_form(model, checkpoints, task, train, targets, None, kind)))


OUTPUTS = {
    "tuple of four": lambda image, text, scale: (image, text, scale, torch.zeros(())),
    "dict": lambda image, text, scale: {"image_features": image, "text_features": text, "logit_scale": scale},
    "no scale": lambda image, text, scale: {"image_embeds": image, "text_embeds": text},
}


@pytest.mark.parametrize("form", OUTPUTS)
def test_outputs_in_any_form(form: str):
    data, expected = pairs(TRAIN), []
    for model in (Pairs(), Pairs(OUTPUTS[form])):
        task = prepared(model, data)
        parts = dict(model.named_parameters()), dict(model.named_buffers())
        expected.append((task.get_output(model, *parts, *data[0]), task.get_out_to_loss_grad(model, *parts, data[:])))
    for left, right in zip(*expected, strict=True):
        torch.testing.assert_close(left, right)


def test_batches_as_dicts(tmp_path: Path):
    from tda.trak import TRAKer

    model, data, rows = Pairs(), pairs(TRAIN), []
    for name, batch in (("tuple", data[:]), ("dict", dict(zip(("text", "image"), data[:][::-1], strict=True)))):
        traker = TRAKer(model, prepared(model, data), TRAIN, tmp_path / name, device="cpu", proj_dim=8)
        traker.load_checkpoint(model.state_dict(), 0)
        traker.featurize(batch, num_samples=TRAIN)
        rows.append(np.load(tmp_path / name / "0" / "gradients.npy"))
    np.testing.assert_allclose(*rows)


def test_another_simulated_batch_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    model, train, targets = Pairs(), pairs(TRAIN), pairs(TARGETS, 1)
    checkpoints = [model.state_dict()]
    scores_of(model, checkpoints, train, targets, task=prepared(model, train), save_dir=tmp_path / "shared")
    assert "computed again" not in caplog.text
    scores_of(model, checkpoints, train, targets, task=prepared(model, train), save_dir=tmp_path / "shared")
    assert "computed again" not in caplog.text
    task = prepared(model, pairs(TRAIN, 9))
    found = scores_of(model, checkpoints, train, targets, task=task, save_dir=tmp_path / "shared")
    assert "computed again" in caplog.text
    expected = scores_of(model, checkpoints, train, targets, task=task, save_dir=tmp_path / "apart")
    torch.testing.assert_close(found, expected)


def test_a_clip_of_transformers(tmp_path: Path):
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    shared = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = shared | {"vocab_size": 20, "max_position_embeddings": 6, "eos_token_id": 19, "bos_token_id": 0, "pad_token_id": 1}
    vision = shared | {"image_size": 8, "patch_size": 4}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)).double()
    generator = torch.Generator().manual_seed(0)

    def data(count: int) -> TensorDataset:
        tokens = torch.randint(2, 19, (count, 6), generator=generator)
        tokens[:, -1] = 19
        return TensorDataset(torch.randn(count, 3, 8, 8, generator=generator).double(), tokens)

    train, targets = data(TRAIN), data(TARGETS)
    task, checkpoints = prepared(model, train), [model.state_dict()]
    found = scores_of(model, checkpoints, train, targets, task=task, save_dir=tmp_path)
    torch.testing.assert_close(found, combined(closed_form(model, checkpoints, task, train, targets, None)))
    parts = dict(model.named_parameters()), dict(model.named_buffers())
    scaled = CLIPModelOutput(temperature=model.logit_scale.exp().item(), simulated_batch_size=6)
    scaled._simulated = task._simulated
    q = (each.get_out_to_loss_grad(model, *parts, train[:]) for each in (task, scaled))
    torch.testing.assert_close(*q)


def by_autograd(model: nn.Module, task: CLIPModelOutput, pairs: TensorDataset) -> Tensor:
    """Gradients (n, parameters) of f of each pair alone, from the model's own outputs and the simulated batch."""
    parameters, rows = [parameter for parameter in model.parameters() if parameter.requires_grad], []
    for image, text in pairs:
        left, right = model(image=image[None], text=text[None])[:2]
        own = (left * right).sum()
        value = -(left @ task.text_embeddings.T - own).logsumexp(1) - (right @ task.image_embeddings.T - own).logsumexp(1)
        found = torch.autograd.grad(value.sum(), parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in found]))
    return torch.stack(rows)


OPEN_CLIP = {
    "vision transformer": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 4, "image_size": 8},
    "ResNet": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "patch_size": None, "image_size": 32},
}


@pytest.mark.parametrize("tower", OPEN_CLIP)
def test_models_of_open_clip(tower: str, tmp_path: Path):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    vision, side = OPEN_CLIP[tower], OPEN_CLIP[tower]["image_size"]
    text = {"context_length": 6, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.model.CLIP(embed_dim=4, vision_cfg=vision, text_cfg=text).double().eval()
    assert model.logit_scale.shape == () and model.logit_scale.requires_grad
    generator = torch.Generator().manual_seed(0)
    train, targets = (
        TensorDataset(
            torch.randn(count, 3, side, side, generator=generator).double(),
            torch.randint(1, 20, (count, 6), generator=generator),
        )
        for count in (TRAIN, TARGETS)
    )
    task = prepared(model, train)
    # Of whole gradients the scores are k (K + ridge)^-1 Q, with no projection between.
    found = scores_of(
        model, [model.state_dict()], train, targets, task=task, save_dir=tmp_path, projector=projectors.NoOpProjector()
    )
    left, right = by_autograd(model, task, train), by_autograd(model, task, targets)
    kernel = left @ left.T
    ridge = kernel.diagonal().mean() * torch.eye(TRAIN, dtype=torch.float64)
    with torch.no_grad():
        image, words, scale = model(image=train[:][0], text=train[:][1])
        own = (image * words).sum(1, keepdim=True)
        sides = (image @ task.text_embeddings.T, words @ task.image_embeddings.T)
        factor = 1 - sum((scale * torch.cat([own, side], 1)).softmax(1)[:, 0] for side in sides) / 2
    torch.testing.assert_close(found, factor[:, None] * torch.linalg.solve(kernel + ridge, left @ right.T))


def test_embeddings_that_do_not_fit_are_one_sentence():
    with pytest.raises(UserError, match="have 4 dimensions"):
        prepared(Pairs(), pairs(TRAIN), dimension=5)
    with pytest.raises(UserError, match="holds no pair"):
        CLIPModelOutput().get_embeddings(Pairs(), [], batch_size=1, embedding_dim=4)


class Scaled(nn.Module):
    """A classifier whose logits a parameter of shape () multiplies."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.scale = nn.Linear(5, 3), nn.Parameter(torch.tensor(2.0))
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * self.fc(inputs)


class Own(ImageClassificationModelOutput):
    """The named task by torch.func."""

    def get_output(self, *arguments: object) -> Tensor:
        """As of the named task."""
        return super().get_output(*arguments)


@pytest.mark.parametrize("task", [ImageClassificationModelOutput(), Own()])
@pytest.mark.parametrize("kind", ["sparse", "rademacher"])
def test_any_model_with_a_parameter_of_shape_nothing(kind: str, task: object, tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    train, targets = (
        TensorDataset(torch.randn(n, 5, generator=generator).double(), torch.randint(3, (n,), generator=generator))
        for n in (TRAIN, TARGETS)
    )
    model = Scaled()
    options = {"task": task, "save_dir": tmp_path, "projector": Projection(8, 0, kind)}
    found = scores_of(model, [model.state_dict()], train, targets, **options)
    torch.testing.assert_close(found, combined(closed_form(model, [model.state_dict()], task, train, targets, None, kind)))
