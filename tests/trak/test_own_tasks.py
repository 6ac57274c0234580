"""Tasks of a program's own: right numbers whatever torch.func can follow, and one sentence for what is no task."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from trak_programs import DIMENSION, TARGETS, TRAIN, ImageOutput, image_data, image_model, scores_of, states

from tda.system.errors import UserError
from tda.trak import TRAKer

TRAINED, SCORED = image_data(TRAIN), image_data(TARGETS, seed=1)


def program(folder: Path, task: object = "image_classification", model: nn.Module | None = None, **options: object) -> Tensor:
    return scores_of(model or image_model(), states(1), TRAINED, SCORED, task=task, save_dir=folder, **options)


class Item(ImageOutput):
    """A label taken out of its tensor, which vmap cannot follow."""

    @staticmethod
    def get_output(model: nn.Module, weights: dict, buffers: dict, image: Tensor, label: Tensor) -> Tensor:
        """As of ImageOutput."""
        return ImageOutput.get_output(model, weights, buffers, image, torch.tensor(label.item()))


class Direct(ImageOutput):
    """A model called as it is, past the weights that torch.func differentiates."""

    @staticmethod
    def get_output(model: nn.Module, weights: dict, buffers: dict, image: Tensor, label: Tensor) -> Tensor:
        """As of ImageOutput."""
        logits = model(image[None])
        others = logits.masked_fill(torch.arange(logits.shape[1]) == label, -torch.inf)
        return logits[0, label] - others.logsumexp(dim=-1)[0]


class Checkpointed(ImageOutput):
    """Activations that are computed again on the way back, which torch.func cannot follow."""

    @staticmethod
    def get_output(model: nn.Module, weights: dict, buffers: dict, image: Tensor, label: Tensor) -> Tensor:
        """As of ImageOutput."""
        run = lambda image: ImageOutput.get_output(model, weights, buffers, image, label)  # noqa: E731
        return checkpoint(run, image.requires_grad_(), use_reentrant=True)


class Doubled(torch.autograd.Function):
    """A function in the form that torch.func refuses."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return value * 1

    @staticmethod
    def backward(ctx: object, delta: Tensor) -> Tensor:
        return delta


class Custom(ImageOutput):
    """An autograd.Function without setup_context."""

    @staticmethod
    def get_output(*arguments: object) -> Tensor:
        """As of ImageOutput."""
        return Doubled.apply(ImageOutput.get_output(*arguments))


class WritingToItsInput(ImageOutput):
    """An image that the output function overwrites."""

    @staticmethod
    def get_output(model: nn.Module, weights: dict, buffers: dict, image: Tensor, label: Tensor) -> Tensor:
        """As of ImageOutput, of the image times two."""
        return ImageOutput.get_output(model, weights, buffers, image.mul_(2), label)

    def get_out_to_loss_grad(self, model: nn.Module, weights: dict, buffers: dict, batch: list[Tensor]) -> Tensor:
        """As of ImageOutput, of the images times two."""
        batch[0].mul_(2)
        return super().get_out_to_loss_grad(model, weights, buffers, batch)


class SparseWords(nn.Module):
    """An embedding with sparse gradients, and three logits of the mean of its words."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.out = nn.Embedding(9, 4, sparse=True), nn.Linear(4, 3)
        self.double()

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.words(words).mean(dim=1))


class QByAutograd(ImageOutput):
    """Q as the derivative of the loss by an added f."""

    def get_out_to_loss_grad(self, model: nn.Module, weights: dict, buffers: dict, batch: list[Tensor]) -> Tensor:
        """1 - p by autograd: minus the loss's derivative by the label's logit."""
        images, labels = batch
        logits = functional_call(model, (weights, buffers), (images,))
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return -torch.autograd.grad(loss, logits)[0][torch.arange(len(labels)), labels]


@pytest.mark.parametrize("task", [Item, Direct, Checkpointed, Custom])
def test_what_torch_func_cannot_follow_goes_by_autograd_and_says_so(
    task: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    torch.testing.assert_close(program(tmp_path / "own", task()), program(tmp_path / "named"))
    assert f"get_output of {task.__name__} is differentiated one example at a time" in caplog.text
    assert caplog.records[0].name.startswith("tda")


def test_what_torch_func_can_follow_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    torch.testing.assert_close(program(tmp_path / "own", ImageOutput()), program(tmp_path / "named"))
    torch.testing.assert_close(program(tmp_path / "q", QByAutograd()), program(tmp_path / "named"))
    assert "at a time" not in caplog.text


def test_sparse_gradients_are_those_of_a_dense_embedding(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    draw = lambda count: torch.utils.data.TensorDataset(  # noqa: E731
        torch.randint(9, (count, 5), generator=generator), torch.randint(3, (count,), generator=generator)
    )
    data, found = (draw(TRAIN), draw(TARGETS)), []
    for sparse in (True, False):
        model = SparseWords()
        model.words.sparse = sparse
        own = scores_of(model, [model.state_dict()], *data, task=ImageOutput(), save_dir=tmp_path / str(sparse))
        found.append(own)
    torch.testing.assert_close(*found)


def test_what_torch_func_stops_following_goes_on_by_autograd(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    class Later(ImageOutput):
        calls = 0

        def get_output(self, *arguments: object) -> Tensor:
            Later.calls += 1
            if Later.calls > 6:
                arguments[-1].item()
            return super().get_output(*arguments)

    torch.testing.assert_close(program(tmp_path / "own", Later()), program(tmp_path / "named"))
    assert "get_output of Later is differentiated one example at a time" in caplog.text


def test_a_task_that_writes_to_its_batch_changes_no_number(tmp_path: Path):
    images, labels = (part.clone() for part in TRAINED.tensors)
    found = program(tmp_path / "own", WritingToItsInput())
    doubled = [torch.utils.data.TensorDataset(2 * data.tensors[0], data.tensors[1]) for data in (TRAINED, SCORED)]
    torch.testing.assert_close(found, scores_of(image_model(), states(1), *doubled, save_dir=tmp_path / "named"))
    assert torch.equal(images, TRAINED.tensors[0]) and torch.equal(labels, TRAINED.tensors[1])


def test_an_output_that_draws_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    class Dropping(ImageOutput):
        def get_output(self, model: nn.Module, weights: dict, buffers: dict, image: Tensor, label: Tensor) -> Tensor:
            return super().get_output(model, weights, buffers, nn.functional.dropout(image), label)

    program(tmp_path, Dropping())
    assert "get_output of Dropping draws random numbers" in caplog.text


def test_an_example_without_gradient_has_a_row_of_zeros(tmp_path: Path):
    class Partly(ImageOutput):
        @staticmethod
        def get_output(model: nn.Module, weights: dict, buffers: dict, image: Tensor, label: Tensor) -> Tensor:
            output = ImageOutput.get_output(model, weights, buffers, image, label)
            return output if label.item() else torch.zeros(())

    traker = TRAKer(image_model(), Partly(), TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(states()[0], 0)
    traker.featurize(TRAINED[:], num_samples=TRAIN)
    empty = (np.load(tmp_path / "0" / "gradients.npy") == 0).all(axis=1)
    np.testing.assert_array_equal(empty, TRAINED[:][1].numpy() == 0)


class Named(ImageOutput):
    """Parts that go by other names."""

    @staticmethod
    def get_output(model: nn.Module, weights: dict, buffers: dict, label: Tensor, image: Tensor) -> Tensor:
        """As of ImageOutput."""
        return ImageOutput.get_output(model, weights, buffers, image, label)

    def get_out_to_loss_grad(self, model: nn.Module, weights: dict, buffers: dict, batch: list[Tensor]) -> Tensor:
        """As of ImageOutput."""
        return super().get_out_to_loss_grad(model, weights, buffers, batch[::-1])


def test_a_dict_is_given_in_the_order_of_the_arguments(tmp_path: Path):
    found = []
    for name, task, formed in (("own", Named(), lambda x, y: {"image": x, "label": y}), ("same", ImageOutput(), lambda *p: p)):
        traker = TRAKer(image_model(), task, TRAIN, tmp_path / name, device="cpu", proj_dim=DIMENSION)
        traker.load_checkpoint(states()[0], 0)
        traker.featurize(formed(*TRAINED[:]), num_samples=TRAIN)
        found.append([np.load(tmp_path / name / "0" / f"{part}.npy") for part in ("gradients", "out_to_loss")])
    for left, right in zip(*found, strict=True):
        np.testing.assert_allclose(left, right)
    traker.load_checkpoint(states()[0], 0)
    with pytest.raises(UserError, match="get_output of ImageOutput takes image, label"):
        traker.featurize({"image": TRAINED[:][0], "class": TRAINED[:][1]}, num_samples=TRAIN)


def failing(output: object = None, q: object = None) -> ImageOutput:
    """A task with an output or a Q that is none."""
    methods = {}
    if output is not None:
        methods["get_output"] = lambda self, model, weights, buffers, image, label: output(
            functional_call(model, (weights, buffers), (image[None],))
        )
    if q is not None:
        methods["get_out_to_loss_grad"] = lambda self, model, weights, buffers, batch: q(batch)
    return type("Failing", (ImageOutput,), methods)()


FAILING = {
    "a vector": (failing(output=lambda z: z), r"gave numbers \(1, 3\) for one example"),
    "a float": (failing(output=lambda z: 1.0), "gave float for one example"),
    "detached": (failing(output=lambda z: z.detach()[0, 0]), "has no gradient"),
    "wrong shapes": (failing(output=lambda z: (z @ z)[0, 0]), "cannot be differentiated for one example"),
    "Q None": (failing(q=lambda batch: None), "gave NoneType for 20 examples"),
    "Q of other examples": (failing(q=lambda batch: torch.ones(7)), r"gave \(7,\) for 20 examples"),
    "Q NaN": (failing(q=lambda batch: torch.full((len(batch[0]),), torch.nan)), "example 0 of the training examples is NaN"),
}


@pytest.mark.parametrize("case", FAILING)
def test_what_is_no_task_is_one_sentence(case: str, tmp_path: Path):
    task, words = FAILING[case]
    traker = TRAKer(image_model(), task, TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(states()[0], 0)
    with pytest.raises(UserError, match=words) as refused:
        traker.featurize(TRAINED[:], num_samples=TRAIN)
    assert "\n" not in str(refused.value)


def test_an_error_in_a_programs_code_is_its_own(tmp_path: Path):
    traker = TRAKer(image_model(), failing(output=lambda z: z + missing), TRAIN, tmp_path, device="cpu")  # noqa: F821
    traker.load_checkpoint(states()[0], 0)
    with pytest.raises(NameError, match="missing"):
        traker.featurize(TRAINED[:], num_samples=TRAIN)


def test_one_number_as_q_counts_for_every_example(tmp_path: Path):
    found = program(tmp_path / "one", failing(q=lambda batch: torch.tensor(0.5)))
    each = program(tmp_path / "each", failing(q=lambda batch: torch.full((len(batch[0]), 1), 0.5)))
    torch.testing.assert_close(found, each)
