"""The table of metasmoothness: what stands in its rows, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from conftest import EXPERIMENT, Ensemble, run_here

from tda.experiments.manifest import read_manifest
from tda.statistics.intervals import over_seeds
from tda.statistics.smoothness import curvature, forecast, sign_agreement
from tda.steps import metasmoothness as metasmoothness_step
from tda.system.errors import UserError
from tda.training.probes import Probe, probed_seeds, removal

TABLE = "metasmoothness.csv"


def measure(**changed) -> str:
    chosen = {"experiment": EXPERIMENT.name, "removed": (1, 3), "num_directions": 3, "num_seeds": 2}
    return run_here("run_metasmoothness.py", **chosen | changed)


def table() -> pd.DataFrame:
    return pd.read_csv(EXPERIMENT.results.path / TABLE)


def test_rows_are_means_over_the_probed_seeds(ensemble: Ensemble):
    line = measure()
    found = table().set_index("removed")
    assert found.index.tolist() == [0, 1, 3] and (found["seeds"] == 2).all() and (found["directions"] == 3).all()
    assert (found["experiment"] == EXPERIMENT.name).all() and (found["steps"] == 15).all()
    for probe in (Probe(0, 0.1, 3), removal(1, 3), removal(3, 3)):
        seeds, row = list(probed_seeds(ensemble.study, probe).values()), found.loc[probe.removed]
        assert row["step"] == probe.step
        expected = over_seeds([each.agreement.mean() for each in seeds])
        assert row["agreement"] == pytest.approx(expected.value, rel=1e-4)
        assert [row["agreement_low"], row["agreement_high"]] == pytest.approx([expected.low, min(expected.high, 1)], rel=1e-4)
        losses = [sign_agreement(each.losses, each.along[0], each.along[1]).mean() for each in seeds]
        assert row["loss_agreement"] == pytest.approx(np.mean(losses), rel=1e-4)
        bent = [curvature(each.losses, each.along[0], each.along[1], probe.step) for each in seeds]
        assert row["loss_curvature"] == pytest.approx(np.mean(bent), rel=1e-4)
        assert row["test_loss"] == pytest.approx(np.mean([each.losses for each in seeds]), rel=1e-4)
        assert row["test_accuracy"] == pytest.approx(np.mean([each.accuracy for each in seeds]), rel=1e-4)
    told = [forecast(*(each.margins_along[k] - each.margins for k in (2, 1))).mean() for each in seeds]
    assert found.loc[3, "forecast"] == pytest.approx(np.mean(told), rel=1e-4) and np.isnan(found.loc[0, "forecast"])
    assert f"metasmoothness {found.loc[0, 'agreement']:.2f}" in line and f"3: {found.loc[3, 'forecast']:.2f}" in line
    assert all((EXPERIMENT.results.path / f"metasmoothness.{suffix}").exists() for suffix in ("png", "pdf"))
    assert "metasmoothness, seeds 0 to 1" in read_manifest(EXPERIMENT.results)["steps"]


def test_variants_stand_beside_each_other_and_are_measured_once(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    line = measure(variants=("pool_inside1e-6", "plain", "inside1e-6_pool"), removed=(1,))
    name = f"{EXPERIMENT.name}_inside1e-6_pool"
    assert table()[["experiment", "removed"]].to_numpy().tolist() == [
        [EXPERIMENT.name, 0],
        [EXPERIMENT.name, 1],
        [name, 0],
        [name, 1],
    ]
    assert line.count("metasmoothness 0.") + line.count("metasmoothness 1.") == 2 and "derivatives through the training" in line
    before = table()
    monkeypatch.setattr("tda.training.probes.train_many", None)
    measure(removed=(1,))
    pd.testing.assert_frame_equal(table(), before)
    # The variant's own table, as the main experiment.
    measure(experiment=name, variants=("plain",), removed=(1,))
    own = pd.read_csv(ensemble.root / "results" / name / TABLE)
    pd.testing.assert_frame_equal(own, before)


def test_seeds_that_are_probed_later_join_the_row(ensemble: Ensemble):
    measure(removed=(1,), num_seeds=None, seed_id=2)
    assert table()["seeds"].tolist() == [1, 1] and table()["agreement_low"].isna().all()
    measure(removed=(1,), num_seeds=1)
    assert table()["seeds"].tolist() == [2, 2] and table()["agreement_low"].notna().all()
    measure(removed=(1,), num_seeds=1, num_directions=2)
    assert table()["seeds"].tolist() == [1, 1] and table()["directions"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_directions": 1}, "--num_directions must be 2 or more, not 1"),
        ({"weight_step": 0.0}, "--weight_step must be positive, not 0.0"),
        ({"removed": (1, 0)}, "--removed must be numbers of examples from 1, not 1,0"),
        ({"removed": ()}, "--removed must be numbers of examples from 1, not none"),
        ({"removed": (1, 6)}, "--removed 6 leaves nothing of 6 training examples"),
        ({"variants": ("smooth",)}, "smooth is no option of a variant"),
        ({"variants": ("gelu",)}, "gelu does not fit --model cnn"),
    ],
)
def test_unusable_settings_are_refused(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch, changed: dict, words: str):
    monkeypatch.setattr("tda.training.probes.train_many", None)
    with pytest.raises(UserError, match=words):
        measure(**changed)
    assert not (EXPERIMENT.results.path / TABLE).exists()


@pytest.mark.parametrize(
    ("forecasts", "words"),
    [
        (
            (0.9, 0.7, 0.6),
            "predict what leaving out about 30 examples does, the most that was tried (rank correlation 1: ",
        ),
        ((0.9, 0.6, 0.4), "predict what leaving out about 8 examples does (rank correlation"),
        ((0.6, 0.4, 0.4), "predict what leaving out about one example does (rank"),
        (
            (0.4, 0.3, 0.2),
            "do not predict what leaving out a single example does (rank correlation 1: 0.40, 8: 0.30, 30",
        ),
    ],
)
def test_sentence_says_how_far_derivatives_reach(forecasts: tuple[float, ...], words: str):
    rows = pd.DataFrame({"experiment": "cnn", "removed": [0, 1, 8, 30], "forecast": [np.nan, *forecasts], "test_accuracy": 0.9})
    found = metasmoothness_step._sentence(rows.assign(agreement=0.75))
    assert (
        found.startswith("cnn: metasmoothness 0.75, test accuracy 0.900, derivatives through the training") and words in found
    )
