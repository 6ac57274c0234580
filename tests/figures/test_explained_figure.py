"""The figure of one explained test image: what is written above its panels."""

import numpy as np
import pandas as pd
import torch

from tda.data.splits import Split
from tda.experiments.folders import ResultsFolder
from tda.features.influence_maps import Pairs
from tda.features.seed_maps import PixelStatistics
from tda.features.subjects import Subject
from tda.figures.feature_attribution import Explained, draw_explained


def test_scores_of_any_size_have_three_digits():
    split = Split(torch.rand(3, 1, 4, 4), torch.arange(3), torch.tensor([5, 6, 7]))
    subject = Subject(ResultsFolder("x"), "abc", (0.0,), (1.0,), split, split, seeds=[])
    pairs = Pairs(torch.arange(3), torch.zeros(3, dtype=torch.int64))
    table = pd.DataFrame({"train_idx": [5, 6, 7], "train_class": list("abc")})
    table["score_mean"], table["score_std"] = [-4.56789e-5, 0.98765, 12345678.9], [1.234e-6, 0.5, 3456789.1]
    statistics = PixelStatistics(*(np.ones((3, 1, 4, 4)) for _ in range(3)))
    explained = Explained(subject, pairs, torch.arange(3), statistics, table, np.ones((4, 4)), predicted=1)
    figure = draw_explained(explained, "largest", absolute=True)
    titles = [panel.get_title().replace("\n", " ") for panel in figure.axes[1:4]]
    assert titles == ["a #5 -4.57e-05 ± 1.23e-06", "b #6 0.988 ± 0.5", "c #7 1.23e+07 ± 3.46e+06"]
