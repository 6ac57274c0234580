"""Stacked training against training one by one, on the CPU, where both are available."""

from dataclasses import replace

import pytest
import tiny_texts
import torch
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.objectives import Classification
from tda.models.model_state import read_state
from tda.models.seeded_dropout import SeededDropout
from tda.models.training_plan import TrainingPlan
from tda.training import many_models, stacked_models
from tda.training.many_models import train_many
from tda.training.runs import Run
from tda.training.stacked_convolutions import ConvolutionsAsProducts
from tda.training.stacked_models import can_be_stacked, train_stacked

EVERY_FAMILY = True
PLAN = TrainingPlan(epochs=3, batch_size=4)
OBJECTIVE = Classification()


def small_network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Conv2d(1, 3, 3), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 5), nn.GELU(), nn.Linear(5, 4))
        return nn.Sequential(*layers)


def examples(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    return Split(torch.randn(count, 1, 8, 8, generator=generator), labels, torch.arange(count))


def runs_without(removed: list[int | None], train: Split, start_seed: int = 1) -> list[Run]:
    start = read_state(small_network(start_seed))
    steps = PLAN.steps_per_epoch(len(train))
    runs = []
    for example in removed:
        weights = torch.ones(len(train))
        if example is not None:
            weights[example] = 0
        runs.append(Run(start, PLAN.batches(5, len(train)), [steps, 3 * steps], weights))
    return runs


def test_equals_training_one_by_one() -> None:
    train, test = examples(10, 0), examples(7, 1)
    runs = runs_without([None, 0, 3, 9], train)
    stacked = dict(train_stacked(small_network(2), PLAN, OBJECTIVE, runs, train, test, keep_states=True))
    single = dict(train_many(small_network(2), PLAN, OBJECTIVE, runs, train, test, keep_states=True))
    for number in range(len(runs)):
        for ours, reference in zip(stacked[number], single[number], strict=True):
            assert ours.step == reference.step
            torch.testing.assert_close(ours.evaluation.losses, reference.evaluation.losses, rtol=1e-4, atol=1e-5)
            assert torch.equal(ours.evaluation.predictions, reference.evaluation.predictions)
            for name, tensor in reference.state.parameters.items():
                torch.testing.assert_close(ours.state.parameters[name], tensor, rtol=1e-3, atol=1e-5)
            for quantity, tensors in reference.state.optimizer.items():
                for name, tensor in tensors.items():
                    torch.testing.assert_close(ours.state.optimizer[quantity][name], tensor, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_removing_nothing_changes_nothing(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    train, test = examples(10, 0).to(torch.device(device)), examples(7, 1).to(torch.device(device))
    runs = runs_without([None, 4, None, 7, None], train)
    found = dict(train_stacked(small_network(2).to(device), PLAN, OBJECTIVE, runs, train, test, False))
    # A processor's vector instructions round the last elements of a row differently; a GPU treats all elements alike.
    tolerance = 1e-6 if device == "cpu" else 0
    for number in (2, 4):
        for baseline, same in zip(found[0], found[number], strict=True):
            torch.testing.assert_close(baseline.evaluation.losses, same.evaluation.losses, rtol=0, atol=tolerance)


def test_continues_with_the_optimizer_of_the_start() -> None:
    train, test = examples(10, 0), examples(7, 1)
    (_, snapshots), *_ = train_many(small_network(2), PLAN, OBJECTIVE, runs_without([None], train), train, keep_states=True)
    added = [Run(snapshots[-1].state, [torch.tensor([example])], [1]) for example in range(3)]
    stacked = dict(train_stacked(small_network(2), PLAN, OBJECTIVE, added, train, test, False))
    single = dict(train_many(small_network(2), PLAN, OBJECTIVE, added, train, test))
    for number in range(3):
        torch.testing.assert_close(
            stacked[number][0].evaluation.losses, single[number][0].evaluation.losses, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("options", [{"adam_epsilon_inside": 1e-4}, {"gradient_clipping": 0.2}])
def test_smooth_choices_train_and_continue_as_one_by_one(device: str, options: dict) -> None:
    """Trained in a stack, then one more step from the state that was read; on a GPU both within a captured graph."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    plan, place = replace(PLAN, **options), torch.device(device)
    train, test = examples(10, 0), examples(7, 1)
    runs, found = runs_without([None, 0, 3], train), {}
    for name, trainer, where in (("stacked", train_stacked, place), ("alone", train_many, torch.device("cpu"))):
        data, judged, model = train.to(where), test.to(where), small_network(2).to(where)
        trained = dict(trainer(model, plan, OBJECTIVE, runs, data, judged, True))
        added = [Run(trained[number][-1].state, [torch.tensor([number])], [1]) for number in range(3)]
        after = dict(trainer(model, plan, OBJECTIVE, added, data, judged, True))
        found[name] = [snapshot for number in range(3) for snapshot in (trained[number][-1], after[number][0])]
    for ours, reference in zip(found["stacked"], found["alone"], strict=True):
        torch.testing.assert_close(ours.evaluation.losses, reference.evaluation.losses, rtol=1e-4, atol=1e-5)
        assert ours.state.optimizer.keys() == reference.state.optimizer.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert ours.state.optimizer["step"] == reference.state.optimizer["step"]
    plain = dict(train_many(small_network(2), PLAN, OBJECTIVE, runs, train, test))
    assert not torch.allclose(plain[0][-1].evaluation.losses, found["alone"][0].evaluation.losses, rtol=1e-3)


def test_runs_of_different_length_and_seed_are_grouped() -> None:
    train, test = examples(10, 0), examples(7, 1)
    short = [Run(read_state(small_network(seed)), PLAN.batches(seed, 10)[:2], [2]) for seed in (1, 2)]
    runs = [short[0], *runs_without([None, 2], train), short[1]]
    stacked = dict(train_stacked(small_network(2), PLAN, OBJECTIVE, runs, train, test, False))
    single = dict(train_many(small_network(2), PLAN, OBJECTIVE, runs, train, test))
    assert sorted(stacked) == [0, 1, 2, 3]
    for number, snapshots in single.items():
        torch.testing.assert_close(stacked[number][-1].evaluation.losses, snapshots[-1].evaluation.losses, rtol=1e-4, atol=1e-5)


def _skip_unless_stacked(model: nn.Module, train: Split) -> None:
    """Llama holds its rotations in a buffer, which training might change for all that is known; everything else is stacked."""
    if not can_be_stacked(model, train[:1].inputs):
        assert getattr(model, "network", model).config.model_type == "llama"
        pytest.skip("it has buffers of floating-point numbers, so that it is trained alone")


def test_every_family_is_stacked_as_it_is_trained_alone(tiny):
    """In float64, six epochs in batches of 4, 4 and 1: losses, margins, predictions, parameters and Adam's moments."""
    train, test, members = tiny
    study = members[0].study
    plan, steps = study.plan, study.plan.steps_per_epoch(len(train))
    _skip_unless_stacked(study.new_model(), train)
    runs = []
    for removed, seed in ((None, 1), (5, 1), (0, 2)):
        weights = torch.ones(len(train))
        weights[[] if removed is None else removed] = 0
        batches = plan.batches(seed, len(train))
        runs.append(Run(read_state(study.new_model(seed)), batches, [steps, 6 * steps], weights, seed))
    both = [
        dict(trainer(study.new_model(), plan, study.task.objective, runs, train, test, True))
        for trainer in (train_stacked, train_many)
    ]
    for number in range(3):
        for ours, reference in zip(both[0][number], both[1][number], strict=True):
            assert ours.step == reference.step
            assert torch.equal(ours.evaluation.predictions, reference.evaluation.predictions)
            assert ours.evaluation.predictions.shape == test.labels.shape
            for name in ("losses", "margins"):
                found, expected = getattr(ours.evaluation, name), getattr(reference.evaluation, name)
                torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
            for name, tensor in reference.state.parameters.items():
                torch.testing.assert_close(ours.state.parameters[name], tensor, rtol=1e-7, atol=1e-9)
            assert ours.state.optimizer.keys() == reference.state.optimizer.keys()
            for quantity, tensors in reference.state.optimizer.items():
                for name, tensor in tensors.items():
                    torch.testing.assert_close(ours.state.optimizer[quantity][name], tensor, rtol=1e-6, atol=1e-10)
    first, second = both[0][0][-1].evaluation.losses, both[0][1][-1].evaluation.losses
    assert not torch.allclose(first, second, rtol=1e-3)


def dropping_network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Flatten(), SeededDropout(0.2), nn.Linear(64, 6), nn.GELU(), SeededDropout(0.5), nn.Linear(6, 4))
        return nn.Sequential(*layers)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("seeds", [(5, 5, 5), (5, 6, 5)], ids=["one seed", "two seeds"])
def test_dropout_and_falling_rates_are_those_of_training_alone(device: str, seeds: tuple[int, ...]) -> None:
    """Runs of one seed share what they draw, those of several draw their own; the last batch of an epoch is smaller."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    plan = replace(PLAN, linear_decay=True, warm_up=0.2)
    train, test = (examples(10, seed).to(torch.device(device)) for seed in (0, 1))
    runs = []
    for removed, seed in zip((None, 3, 7), seeds, strict=True):
        weights = torch.ones(10, device=device)
        weights[[] if removed is None else removed] = 0
        runs.append(Run(read_state(dropping_network(seed)), plan.batches(seed, 10), [3, 9], weights, seed))
    stacked = dict(train_stacked(dropping_network(1).to(device), plan, OBJECTIVE, runs, train, test, False))
    for number, run in enumerate(runs):
        alone = many_models._train_one(dropping_network(1).to(device), plan, OBJECTIVE, run, train, test, False)
        for ours, reference in zip(stacked[number], alone, strict=True):
            torch.testing.assert_close(ours.evaluation.losses, reference.evaluation.losses, rtol=1e-4, atol=1e-5)
    still = replace(PLAN, linear_decay=False)
    steady = dict(train_stacked(dropping_network(1).to(device), still, OBJECTIVE, runs, train, test, False))
    assert not torch.allclose(steady[0][-1].evaluation.losses, stacked[0][-1].evaluation.losses, rtol=1e-3)


def small_reader(share: float) -> nn.Module:
    model = tiny_texts.small_bert(tiny_texts.CLASSES)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, SeededDropout(share))
    return model


def test_texts_with_dropout_are_stacked_on_a_gpu_alone() -> None:
    """There nothing is cut off, so that a mask has the same shape alone and in a stack."""
    tokens = torch.randint(1, 14, (10, 5), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(5) < torch.tensor([3, 5, 2, 5, 4, 5, 1, 3, 2, 4])[:, None]).long()
    texts = Split({"input_ids": tokens, "attention_mask": mask}, torch.arange(10) % 3, torch.arange(10))
    assert can_be_stacked(small_reader(0.0), texts[:1].inputs)
    assert not can_be_stacked(small_reader(0.3), texts[:1].inputs)
    if not torch.cuda.is_available():
        pytest.skip("the rest needs a GPU")
    model, texts = small_reader(0.3).cuda(), texts.to(torch.device("cuda"))
    assert can_be_stacked(model, texts[:1].inputs)
    runs = [Run(read_state(model), PLAN.batches(seed, 10), [9], seed=seed) for seed in (1, 2)]
    stacked = dict(train_stacked(model, PLAN, OBJECTIVE, runs, texts, texts, False))
    for number, run in enumerate(runs):
        (alone,) = many_models._train_one(model, PLAN, OBJECTIVE, run, texts, texts, False)
        torch.testing.assert_close(stacked[number][0].evaluation.losses, alone.evaluation.losses, rtol=1e-4, atol=1e-5)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(3, 4, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)[1][0]


class Routed(nn.Module):
    """Each expert takes the examples that are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(3, 4) for _ in range(2))

    def forward(self, inputs: Tensor) -> Tensor:
        own = inputs.mean(dim=1)
        chosen, outputs = own[:, 0] > 0, own.new_zeros(len(own), 4)
        for number, expert in enumerate(self.experts):
            taken = (chosen == bool(number)).nonzero()[:, 0]
            outputs = outputs.index_copy(0, taken, expert(own[taken]))
        return outputs


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(inputs.mean(dim=1)), 0.5)


@pytest.mark.parametrize("kind", [Recurrent, Routed, Dropping])
def test_what_vmap_cannot_follow_is_trained_alone(kind: type[nn.Module]) -> None:
    assert not can_be_stacked(kind(), torch.randn(1, 5, 3))


def test_a_single_step_of_a_score_is_at_the_full_rate_and_drops_nothing() -> None:
    plan = replace(PLAN, linear_decay=True)
    train, test = examples(10, 0), examples(7, 1)
    added = [Run(read_state(dropping_network(1)), [torch.tensor([number])], [1]) for number in range(3)]
    stacked = dict(train_stacked(dropping_network(2), plan, OBJECTIVE, added, train, test, False))
    single = dict(train_many(dropping_network(2), plan, OBJECTIVE, added, train, test))
    for number in range(3):
        torch.testing.assert_close(
            stacked[number][0].evaluation.losses, single[number][0].evaluation.losses, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 1}, {"padding": "same"}, {"groups": 2}, {"dilation": 2}])
def test_convolutions_of_a_stack_are_torch_s(options: dict) -> None:
    """As products of patches where they are plain, else left to torch."""
    layer = nn.Conv2d(4, 6, (3, 5), **options).double()
    pictures = torch.randn(3, 4, 9, 12, dtype=torch.float64, requires_grad=True)
    expected = layer(pictures)
    with ConvolutionsAsProducts():
        found = layer(pictures)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = [pictures, *layer.parameters()]
    gradients = [torch.autograd.grad(logits.square().sum(), weights) for logits in (found, expected)]
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-10)


def test_evaluation_of_a_stack_does_not_depend_on_the_batch_size(tiny, monkeypatch: pytest.MonkeyPatch):
    train, test, members = tiny
    study = members[0].study
    _skip_unless_stacked(study.new_model(), train)
    runs = [Run(read_state(study.new_model(seed)), [torch.arange(4)], [1]) for seed in (1, 2)]
    found = []
    for size in (1, 5, 128):
        monkeypatch.setattr(stacked_models, "_EVALUATION_BATCH", size)
        stacked = dict(train_stacked(study.new_model(), study.plan, study.task.objective, runs, train, test, False))
        found.append([stacked[number][0].evaluation for number in range(2)])
    for evaluations in found[1:]:
        for ours, reference in zip(evaluations, found[0], strict=True):
            torch.testing.assert_close(ours.losses, reference.losses, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(ours.margins, reference.margins, rtol=1e-10, atol=1e-12)
            assert torch.equal(ours.predictions, reference.predictions)


def test_stacks_of_one_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = examples(10, 0), examples(7, 1)
    runs = runs_without([None, 2, 5], train)
    together = dict(train_stacked(small_network(2), PLAN, OBJECTIVE, runs, train, test, False))
    sizes, made = [], stacked_models._Stack

    def counted(model: nn.Module, plan: TrainingPlan, objective: Classification, runs: list[Run], train: Split) -> object:
        sizes.append(len(runs))
        return made(model, plan, objective, runs, train)

    monkeypatch.setattr(stacked_models, "_Stack", counted)
    monkeypatch.setattr(stacked_models, "memory_budget", lambda device: 1)
    alone = dict(train_stacked(small_network(2), PLAN, OBJECTIVE, runs, train, test, False))
    # Runs that are alike are loaded into the same stack.
    assert sizes == [1]
    for number, snapshots in alone.items():
        torch.testing.assert_close(
            snapshots[-1].evaluation.losses, together[number][-1].evaluation.losses, rtol=1e-4, atol=1e-5
        )


def test_models_that_draw_or_count_are_not_stacked() -> None:
    example = torch.randn(1, 2)
    assert can_be_stacked(small_network(0), torch.randn(1, 1, 8, 8))
    assert can_be_stacked(nn.Sequential(nn.Linear(2, 2), SeededDropout(0.1)), example)
    assert not can_be_stacked(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), example)
    assert not can_be_stacked(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), example)
