"""The two parts of the test subset, and what each example to select by counts."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Ensemble

from tda.debiasing.parts import ALL, GROUPS, WORST_GROUP, Named, SelectionPart, divided, known_groups, named_examples
from tda.statistics.group_alignment import alignment_weights
from tda.system.errors import UserError


def test_each_stratum_is_divided_by_the_share():
    strata = np.repeat([0, 1, 2], [20, 10, 4])
    parts = divided(strata, 0.5, draw=0)
    assert np.bincount(strata[parts.selection]).tolist() == [10, 5, 2] and np.bincount(strata[parts.report]).tolist() == [
        10,
        5,
        2,
    ]
    assert sorted([*parts.selection, *parts.report]) == list(range(34))
    assert divided(strata, 0.5, draw=0).selection.tolist() == parts.selection.tolist()
    assert divided(strata, 0.5, draw=1).selection.tolist() != parts.selection.tolist()


@pytest.mark.parametrize(("share", "words"), [(0.0, "between 0 and 1"), (1.0, "between 0 and 1"), (0.01, "leaves none")])
def test_shares_that_leave_a_part_empty_are_refused(share: float, words: str):
    with pytest.raises(UserError, match=words):
        divided(np.zeros(10, dtype=int), share, 0)


@pytest.fixture
def part() -> SelectionPart:
    labels, losses = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.2, 2.0, 1.0, 3.0])
    return SelectionPart(np.array([4, 6, 9, 10, 12]), labels, losses, np.array([1.0, 0.9, 0.5, 0.5, 0.0]))


def test_what_matters_has_the_weight(part: SelectionPart):
    groups = ["a", "a", "b", "b", "c"]
    np.testing.assert_allclose(part.weights(ALL, groups, 1.0), 0.2)
    np.testing.assert_allclose(part.weights(WORST_GROUP, groups, 1.0), [0, 0, 0, 0, 1])
    np.testing.assert_allclose(part.weights(WORST_GROUP, part.labels, 1.0), [0, 0, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(part.weights(GROUPS, groups, 2.0), alignment_weights(groups, part.losses, 2.0))
    np.testing.assert_allclose(part.weights("f.txt", groups, 1.0, Named("f.txt", np.array([6, 7, 12]))), [0, 0.5, 0, 0, 0.5])
    with pytest.raises(UserError, match="none of the examples in f.txt"):
        part.weights("f.txt", groups, 1.0, Named("f.txt", np.array([7])))


def test_groups_are_the_data_set_s_or_the_classes(ensemble: Ensemble):
    task = ensemble.study.task
    assert known_groups(task, None, np.array([2, 0])).tolist() == ["2", "0"]
    assert known_groups(task, np.array(["x", "y"]), np.array([2, 0])).tolist() == ["x", "y"]


def test_a_file_names_examples_of_the_test_subset(ensemble: Ensemble, tmp_path: Path):
    study, path = ensemble.study, tmp_path / "hard.txt"
    path.write_text("\n".join(str(int(index)) for index in study.test.indices[[8, 3, 20]]))
    found = named_examples(study, str(path))
    assert found.positions.tolist() == [3, 8, 20] and found.title.startswith("hard.txt ")
    assert named_examples(study, "all") is None
    with pytest.raises(UserError, match="there is no file nowhere.txt"):
        named_examples(study, "nowhere.txt")
    outside = next(
        index for index in range(530) if index not in study.test.indices and study.task.load("test").labels[index] < 3
    )
    path.write_text(f"{outside}\n")
    with pytest.raises(UserError, match=f"index {outside}, which is not in the test subset"):
        named_examples(study, str(path))
