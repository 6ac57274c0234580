"""What a method must find: a training image that is a test image, and one whose label is wrong. Means over five seeds."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from conftest import CHECKOUT
from tiny_model import score

from tda.data.splits import Split
from tda.experiments.folders import Experiment
from tda.methods.leave_one_out import loss_changes
from tda.training.ensembles import members_in_memory
from tda.training.evaluation import evaluate
from tda.training.members import Member
from tda.training.study import Study, open_study

EXPERIMENT = Experiment("cnn", "digits3", 10)
# Inner products that nothing normalises (grad_dot, tracin, repdot) rank an example with a large gradient or representation
# above the copy of a small one. Similarities of representations (repsim, repdot) do not see labels.
FIND_COPIES = ["loo", "grad_cos", "if", "gas", "repsim", "if_arnoldi", "ekfac", "trak", "trak_projected"]
SEE_LABELS = ["loo", "grad_cos", "if", "tracin", "gas", "if_arnoldi", "ekfac", "trak", "trak_projected"]
ON_EVERY_CLASS = ["loo", "grad_cos", "if", "trak"]
NUM_CLASSES = 3


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The study of the committed training subset of 10 per class and the whole test subset."""
    folder = tmp_path_factory.mktemp("committed")
    shutil.copytree(CHECKOUT / "data" / "subset_indices", folder / "data" / "subset_indices")
    shutil.copy(CHECKOUT / "random_seeds.pt", folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(folder))
        yield open_study(EXPERIMENT, "cpu")


def last_members(study: Study) -> list[Member]:
    """The last checkpoint of each of five seeds, trained on the study's training split, never written."""
    return members_in_memory(study, study.seed_ids()[:5])


def mean_scores(method: str, members: list[Member], train: Split, test: Split) -> torch.Tensor:
    """Scores (n_train, n_test) averaged over the seeds."""
    return torch.stack([score(method, [member], train, test)[0] for member in members]).double().mean(dim=0)


def mean_changes(members: list[Member], train: Split, test: Split, removed: Sequence[int]) -> torch.Tensor:
    """Leave-one-out (len(removed), n_test) of some examples alone, each of which is a training, averaged over the seeds."""
    return torch.stack([loss_changes(member, train, test, removed)[-1] for member in members]).double().mean(dim=0)


def hardest(study: Study) -> torch.Tensor:
    """Position of each class's test example with the largest loss, averaged over the members."""
    test = study.inputs(study.test)
    found = [evaluate(member.model, member.objective, test).losses for member in last_members(study)]
    mean = torch.stack(found).mean(dim=0)
    return torch.stack([mean.masked_fill(test.labels != label, -1).argmax() for label in range(NUM_CLASSES)])


@pytest.fixture(scope="module")
def with_copies(committed: Study) -> tuple[list[Member], Split, Split]:
    """The first training example of each class is replaced by a copy of a test image of that class.

    It is the one with the largest loss when nothing is planted: what is predicted well anyway leaves its copy little to
    do, and leave-one-out then rather finds an example that many images are like.
    """
    copied = committed.test[hardest(committed)]
    train = committed.train
    assert train.labels[:NUM_CLASSES].tolist() == copied.labels.tolist() == [0, 1, 2]
    study = replace(committed, train=replace(train, inputs=torch.cat([copied.inputs, train.inputs[NUM_CLASSES:]])))
    return last_members(study), study.inputs(study.train), study.inputs(copied)


@pytest.mark.parametrize("method", FIND_COPIES)
def test_copy_of_a_test_image_is_its_most_helpful_training_example(method: str, with_copies):
    members, train, copied = with_copies
    if method == "loo":
        # The copies are among the first twelve, four of each class.
        found = mean_changes(members, train, copied, range(12))
    else:
        found = mean_scores(method, members, train, copied)
    assert found.argmax(dim=0).tolist() == [0, 1, 2]
    assert (found.diagonal() > 0).all()


@pytest.fixture(scope="module")
def with_wrong_label(committed: Study, request: pytest.FixtureRequest) -> tuple[list[Member], Split, Split, int, int]:
    """A class's first training example is labelled as the next class; the test split, its position and its true class."""
    train, position = committed.train, request.param
    labels, true_class = train.labels.clone(), int(train.labels[position])
    labels[position] = (true_class + 1) % NUM_CLASSES
    study = replace(committed, train=replace(train, labels=labels))
    return last_members(study), study.inputs(study.train), study.inputs(study.test), position, true_class


# Which class it is changes nothing in how a method computes: those that cost most or the same as another are tried on one.
@pytest.mark.parametrize(
    ("with_wrong_label", "method"),
    [(label, method) for label in range(NUM_CLASSES) for method in SEE_LABELS if label == 0 or method in ON_EVERY_CLASS],
    indirect=["with_wrong_label"],
)
def test_wrong_label_harms_test_images_of_the_true_class(method: str, with_wrong_label):
    members, train, test, position, true_class = with_wrong_label
    if method == "loo":
        (row,) = mean_changes(members, train, test, [position])
    else:
        row = mean_scores(method, members, train, test)[position]
    assert row[test.labels == true_class].mean() < 0
    assert row[test.labels == train.labels[position]].mean() > row[test.labels == true_class].mean()
