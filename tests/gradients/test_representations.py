"""The classifier of models of every build is found by looking at them, and what goes into it is as it should be."""

import pytest
import torch
from conftest import MODELS, Ensemble
from torch import Tensor, nn
from torch.nn import functional

from tda.gradients import representations
from tda.gradients.representations import classifier_of, penultimate_representations
from tda.system.errors import UserError
from tda.system.inputs import call

IMAGES = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class LowRankClassifier(nn.Module):
    """A linear layer with a low-rank addition, as LoRA wraps one, which is not a linear layer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.down, self.up = nn.Linear(4, 3), nn.Linear(4, 2, bias=False), nn.Linear(2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class KeywordModel(nn.Module):
    """Calls its classifier by keyword, gives it a representation with several positions, and puts out a dictionary inside."""

    def __init__(self, classifier: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.body, self.classifier, self.unused, self.temperature = nn.Linear(6, 4), classifier, nn.Linear(4, 3), temperature

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(input=self.body(images).relu()) / self.temperature


def test_last_linear_layer_of_a_plain_network():
    model = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3), nn.Identity()))
    assert classifier_of(model, IMAGES[:1]) is model[2][1]
    expected = functional.gelu(functional.linear(IMAGES, model[0].weight, model[0].bias))
    assert model.training
    torch.testing.assert_close(penultimate_representations(model, IMAGES), expected.detach())
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_wrapped_classifier_is_taken_as_a_whole():
    model = nn.Sequential(nn.Linear(6, 4), LowRankClassifier())
    assert classifier_of(model, IMAGES[:1]) is model[1]
    torch.testing.assert_close(penultimate_representations(model, IMAGES), model[0](IMAGES).detach())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_keyword_inputs_and_logits_that_the_model_itself_scales(temperature: float):
    model = KeywordModel(nn.Linear(4, 3), temperature)
    assert classifier_of(model, IMAGES[:1]) is model.classifier
    torch.testing.assert_close(penultimate_representations(model, IMAGES), model.body(IMAGES).relu().detach())


def test_cnn_and_batches(ensemble: Ensemble, monkeypatch):
    (member,) = ensemble.members(15)
    whole = penultimate_representations(member.model, ensemble.test.inputs)
    assert whole.shape == (21, 128)
    logits = member.model(ensemble.test.inputs)
    torch.testing.assert_close(member.model[2][2](whole), logits, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(representations, "BATCH_SIZE", 4)
    torch.testing.assert_close(penultimate_representations(member.model, ensemble.test.inputs), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tiny", MODELS, indirect=True)
def test_members_of_every_family(tiny):
    _, test, members = tiny
    model = members[0].model
    classifier = classifier_of(model, test[:1].inputs)
    width = next(classifier.parameters()).shape[1]
    found = penultimate_representations(model, test.inputs).unflatten(1, (-1, width))
    torch.testing.assert_close(classifier(found).flatten(1), call(model, test.inputs).flatten(1))


def test_model_without_a_classifier_is_refused():
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    with pytest.raises(UserError, match="no classifier"):
        penultimate_representations(Bare(), IMAGES)
