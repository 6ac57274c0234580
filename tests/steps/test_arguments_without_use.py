"""Arguments that a step does not compute with, or cannot: refused at once, with a sentence."""

import pytest
from conftest import Ensemble, run_here

from tda.system.device_names import check_device_name
from tda.system.errors import UserError

NAMED = {"model": "cnn", "task": "digits3", "num_per_class": 2}


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_names_of_devices_are_taken(name: str):
    check_device_name(name)


@pytest.mark.parametrize("script", ["run_correlation_analysis.py", "run_agreement_analysis.py", "run_show_summary.py"])
@pytest.mark.parametrize("device", ["nonsense", "", "cuda:", "cpu "])
def test_a_device_that_is_none_is_refused_where_none_is_used(ensemble: Ensemble, script: str, device: str):
    with pytest.raises(UserError, match="is none; use --device cpu, cuda or auto"):
        run_here(script, **NAMED, device=device)


@pytest.mark.parametrize("script", ["run_feature_attribution.py", "run_map_truth_test.py", "run_shortcut_study.py"])
@pytest.mark.parametrize("name", ["num_test", "num_train"])
@pytest.mark.parametrize("count", [0, -3])
def test_counts_below_one_are_refused(ensemble: Ensemble, script: str, name: str, count: int):
    with pytest.raises(UserError, match=f"--{name} {count} is too small"):
        run_here(script, **NAMED, **{name: count})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"scores": ()}, "--scores names no score"),
        ({"scores": ("grad_dot", "nonsense")}, "unknown score nonsense"),
        ({"smoothing_copies": -3}, "noisy copies"),
        ({"channel_reduction": "nonsense"}, "unknown channel reduction nonsense"),
    ],
)
def test_the_shortcut_study_refuses_before_it_trains(ensemble: Ensemble, settings: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        run_here("run_shortcut_study.py", **NAMED, **settings)
    assert not list(ensemble.root.glob("models/**/*shortcut*"))
