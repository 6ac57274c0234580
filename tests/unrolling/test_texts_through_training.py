"""Derivatives through the training of a classifier of texts, whose batches are cut into groups of similar length."""

from pathlib import Path

import torch
from changed_weights import differences, relative_error
from tiny_texts import CLASSES, encode
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.objectives import Classification, NextToken
from tda.models.families import family_named, new_model
from tda.models.fine_tuning import TextTuning
from tda.models.model_state import read_state
from tda.models.seeded_dropout import SeededDropout
from tda.models.training_plan import TrainingPlan
from tda.system.inputs import cast
from tda.training.runs import Run
from tda.training.taken_steps import Training
from tda.unrolling.both_ways import Unrolling

TEXTS = ["the cat sleeps", "a dog runs fast here now", "the bird sings well", "a cat", "the dog", "a bird runs here"]


def test_groups_of_similar_length_draw_the_same_dropout_again(root: Path, text_base_folder: Path):
    family = family_named("bert").with_choices(TextTuning(base=str(text_base_folder), trained="lora", rank=2, dropout=0.3))
    inputs = cast(family.inputs(CLASSES, encode([*TEXTS, *reversed(TEXTS)]), torch.device("cpu")), torch.float64)
    labels = torch.arange(12) % 2
    train = Split(inputs, labels, torch.arange(12))
    test = train[:4]
    model = new_model(family, CLASSES, 5).double()
    plan = TrainingPlan(epochs=2, batch_size=9, learning_rate=0.01)
    run = Run(read_state(model), plan.batches(3, len(train)), [4], torch.ones(12).double(), seed=5)
    unrolling = Unrolling.of(
        training := Training(model, plan, Classification(), run, train), test, Classification().loss, 2**30
    )
    ((_, forwards),) = unrolling.forwards(range(len(train)))
    expected = differences(training, test, 1.0)
    assert relative_error(forwards[None], expected) < 1e-5
    assert relative_error(unrolling.backwards(4, test).T, forwards) < 1e-9


class _WithDropout(nn.Module):
    """Next-token logits of sums of the words so far, some of which dropout takes out."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.dropout, self.last = nn.Embedding(15, 4), SeededDropout(0.3), nn.Linear(4, 15)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.last(self.dropout(self.words(input_ids) * attention_mask[..., None]).cumsum(dim=1))


def test_padding_that_a_step_cuts_off_draws_no_dropout(root: Path):
    torch.manual_seed(0)
    model = _WithDropout().double()
    tokens = encode([*TEXTS[1:], TEXTS[4], TEXTS[4]])
    labels = tokens["input_ids"].where(tokens["attention_mask"] > 0, torch.tensor(-1))
    train = Split(tokens, labels, torch.arange(7))
    plan = TrainingPlan(epochs=2, batch_size=2, learning_rate=0.01)
    run = Run(read_state(model), plan.batches(3, 7), [8], torch.ones(7).double(), seed=5)
    training = Training(model, plan, NextToken(), run, train)
    unrolling = Unrolling.of(training, train[:3], NextToken().loss, 2**30)
    ((_, forwards),) = unrolling.forwards(range(7))
    assert relative_error(forwards[None], differences(training, train[:3], 1.0)) < 1e-5
    assert relative_error(unrolling.backwards(8, train[:3]).T, forwards) < 1e-9
