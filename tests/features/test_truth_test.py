"""The truth test: against a loop over images and textbook steps, and what it must say of the whole image."""

import numpy as np
import pandas as pd
import torch
from conftest import EXPERIMENT, Ensemble, assert_refused, run_script

from tda.data.splits import Split
from tda.features.influence_maps import Pairs
from tda.features.truth_test import SHARES, Importance, loss_changes, truth_table
from tda.figures.map_truth import draw_truth
from tda.gradients.objectives import Classification
from tda.models.model_state import write_state
from tda.steps.map_truth_test import _ranks, clearly_better
from tda.training.evaluation import evaluate
from tda.training.training_step import make_optimizer, training_step

PAIRS = Pairs(torch.tensor([0, 3, 2, 5]), torch.tensor([4, 4, 1, 1]))


def importance() -> Importance:
    return Importance(PAIRS, torch.rand(4, 28, 28, generator=torch.Generator().manual_seed(0)))


def test_a_change_is_that_of_one_step_on_images_with_pixels_at_the_mean(ensemble: Ensemble):
    (member,) = ensemble.members(15)
    chosen = importance()
    found = loss_changes(member, ensemble.train, ensemble.test, chosen)
    mean = ensemble.train.inputs.mean()
    for protocol, share in (("keep", 0.1), ("delete", 0.3)):
        for position, (test, rows) in enumerate(((4, [0, 1]), (1, [2, 3]))):
            images = ensemble.train.inputs[PAIRS.train[rows]].clone()
            for image, ranks in zip(images, chosen.ranks[rows], strict=True):
                bound = ranks.flatten().sort(descending=True).values[round(share * 784) - 1]
                inside = ranks >= bound
                image[0, ~inside if protocol == "keep" else inside] = mean
            batch = Split(images, ensemble.train.labels[PAIRS.train[rows]], torch.arange(2))
            model = member.study.new_model()
            optimizer = make_optimizer(model, member.plan)
            write_state(member.state, model, optimizer)
            training_step(model, optimizer, Classification(), batch, torch.arange(2), None)
            one = ensemble.test[test : test + 1]
            expected = evaluate(member.model, Classification(), one).losses - evaluate(model, Classification(), one).losses
            torch.testing.assert_close(found[protocol, "map", share][position], expected[0], rtol=1e-3, atol=1e-6)


def test_the_whole_image_and_none_of_it_do_not_depend_on_the_order(ensemble: Ensemble):
    members = [ensemble.members(15, seed_id=seed_id)[0] for seed_id in range(3)]
    table = truth_table(members, ensemble.train, ensemble.test, importance()).set_index(["protocol", "pixels", "share"])
    assert len(table) == 4 * len(SHARES) and (table.seeds == 3).all()
    for protocol in ("keep", "delete"):
        assert abs(table.loss_change[protocol, "map", 1.0] - table.loss_change[protocol, "random", 1.0]) < 1e-5
    figure = draw_truth(table.reset_index())
    assert [line.get_label() for line in figure.axes[0].lines] == ["by the map", "at random", "whole image"]
    assert "100%" not in clearly_better(table.reset_index())


def test_ranks_are_first_order_changes_from_the_mean():
    maps, images = torch.tensor([[[[2.0, -1.0]], [[1.0, 3.0]]]]), torch.tensor([[[[1.0, 0.0]], [[0.0, 4.0]]]])
    # The channels' means are 0.5 and 2.
    pairs = Pairs(torch.tensor([0]), torch.tensor([0]))
    assert _ranks("map_times_change", maps, images, pairs).tolist() == [[[2 * 0.5 - 2.0, 0.5 + 3 * 2.0]]]
    assert _ranks("map", maps, images, pairs).tolist() == [[[3.0, 4.0]]]


def test_the_script_writes_table_and_figure(ensemble: Ensemble):
    arguments = ["--num_per_class", 2, "--num_test", 2, "--num_train", 2, "--smoothing_copies", 0, "--device", "cpu"]
    done = run_script("run_map_truth_test.py", *arguments, root=ensemble.root)
    assert done.returncode == 0, done.stderr
    folder = EXPERIMENT.results.path
    table = pd.read_csv(folder / "map_truth.csv")
    assert len(table) == 4 * len(SHARES) and np.isfinite(table.loss_change).all()
    assert (folder / "map_truth.png").exists() and (folder / "map_truth.pdf").exists()
    refused = run_script("run_map_truth_test.py", *arguments, "--ranked_by", "size", root=ensemble.root)
    assert_refused(refused, "--ranked_by map or map_times_change")
