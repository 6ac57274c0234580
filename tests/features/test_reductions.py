"""Channel reductions and where a map's mass lies, on values small enough to count."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from tda.features.reductions import area_under_curve, centre_of_mass, largest_inside, mass_share, reduce_channels
from tda.system.errors import UserError

MAPS = torch.tensor([[[1.0, -2.0]], [[-3.0, 1.0]], [[2.0, 2.0]]])


@pytest.mark.parametrize(
    ("reduction", "absolute", "expected"),
    [
        ("largest", True, [[3.0, 2.0]]),
        ("sum", True, [[6.0, 5.0]]),
        ("norm", True, [[14**0.5, 3.0]]),
        ("largest", False, [[-3.0, -2.0]]),
        ("sum", False, [[0.0, 1.0]]),
    ],
)
def test_channels_are_reduced(reduction: str, absolute: bool, expected: list):
    torch.testing.assert_close(reduce_channels(MAPS, reduction, absolute), torch.tensor(expected))
    torch.testing.assert_close(reduce_channels(MAPS[None], reduction, absolute)[0], torch.tensor(expected))


def test_a_signed_norm_is_refused():
    with pytest.raises(UserError, match="norm of signed maps; known ones are largest, sum"):
        reduce_channels(MAPS, "norm", absolute=False)


def test_area_under_the_curve_is_that_of_scikit_learn_ties_included():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 6, (5, 6, 7), generator=generator).double()
    region = torch.rand(6, 7, generator=generator) < 0.3
    expected = [roc_auc_score(region.flatten(), one.flatten()) for one in maps]
    torch.testing.assert_close(area_under_curve(maps, region), torch.tensor(expected, dtype=torch.float64))
    assert area_under_curve(torch.ones(1, 6, 7), region).item() == 0.5


def test_mass_and_largest_value_in_a_region():
    region = torch.tensor([[True, False], [False, False]])
    maps = torch.tensor([[[3.0, 1.0], [0.0, 0.0]], [[1.0, 2.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert mass_share(maps, region).tolist() == [0.75, 0.25, 0.25]
    assert largest_inside(maps[:2], region).tolist() == [1, 0]
    assert centre_of_mass(maps[:2]).tolist() == [[0, 0.25], [0.25, 0.75]]
