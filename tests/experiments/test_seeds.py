"""Seeds and the streams of randomness that they fix."""

from pathlib import Path

import pytest
import torch
from conftest import CHECKOUT, SEEDS

from tda.data.tasks import task_named
from tda.experiments.folders import seeds_file
from tda.experiments.seeds import load_seeds
from tda.models.families import family_named, new_model
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.system.random_streams import stream, stream_seed


def test_committed_seeds_are_ten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TDA_ROOT", str(CHECKOUT))
    assert len(set(load_seeds())) == 10


def test_seeds_are_those_of_the_file_in_its_order(root: Path):
    assert load_seeds() == list(SEEDS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.tensor([1.0, 2.0]), "does not hold a one-dimensional LongTensor"),
        (torch.tensor([[1, 2]]), "does not hold a one-dimensional LongTensor"),
        (torch.tensor([], dtype=torch.int64), "does not hold a one-dimensional LongTensor"),
        ([1, 2], "does not hold a one-dimensional LongTensor"),
        (torch.tensor([1, 2, 1]), "holds a seed twice"),
    ],
)
def test_other_content_is_refused(root: Path, content: object, words: str):
    torch.save(content, seeds_file())
    with pytest.raises(UserError, match=words):
        load_seeds()


def test_missing_and_damaged_file_are_refused(root: Path):
    whole = seeds_file().read_bytes()
    seeds_file().write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="random_seeds.pt cannot be read"):
        load_seeds()
    seeds_file().unlink()
    with pytest.raises(UserError, match="random_seeds.pt is missing"):
        load_seeds()


def test_streams_of_one_seed_are_separate_and_fixed():
    purposes = ["initialisation", "batch order", "lissa batches"]
    drawn = [torch.rand(5, generator=stream(7, purpose)).tolist() for purpose in purposes]
    assert len({tuple(numbers) for numbers in drawn}) == 3
    assert drawn[0] == torch.rand(5, generator=stream(7, "initialisation")).tolist()
    assert len({stream_seed(seed, purpose) for seed in range(100) for purpose in purposes}) == 300
    # Ensembles on disk were trained with these numbers.
    assert [stream_seed(0, purpose) for purpose in purposes[:2]] == [4786909632162015820, 3785225260989819299]


def test_initialisation_and_batch_order_vary_apart():
    family, task = family_named("cnn"), task_named("digits3")
    plan = TrainingPlan(epochs=2)
    weights = [torch.cat([p.flatten() for p in new_model(family, task, seed).parameters()]) for seed in (1, 1, 2)]
    orders = [torch.cat(plan.batches(seed, 40)) for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_building_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    new_model(family_named("cnn"), task_named("digits3"), seed=1)
    assert torch.equal(torch.rand(4), expected)
