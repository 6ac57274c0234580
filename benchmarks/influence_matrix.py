"""Which curvature should influence functions invert: the Gauss-Newton matrix or the damped Hessian?

Judged by leave-one-out at the last checkpoint: correlation over all pairs between the influence averaged over the seeds and
the leave-one-out score averaged over the seeds. Reads an experiment's ensemble and its leave-one-out scores; writes
benchmarks/results/influence_matrix_<experiment>.csv.

usage: python benchmarks/influence_matrix.py [experiment ...]
"""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from tda.curvature.inverses import Solver, bilinear_scores, iterative_inverse
from tda.data.splits import Split
from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import experiment_of
from tda.methods.gradient_similarity import loss_kernel
from tda.methods.influence import dual_influence
from tda.scores.score_files import load_scores
from tda.system.devices import prepare_process
from tda.training.members import Member, load_members
from tda.training.study import open_study

DAMPINGS = (5e-3, 5e-2, 5e-1, 5.0)
HESSIAN_DAMPINGS = (5e-3, 5e-1)
TOLERANCE = 1e-2
MAX_ITERATIONS = 40
RESULTS = Path(__file__).parent / "results"


def compare(name: str) -> pd.DataFrame:
    """One row for each curvature and damping."""
    folder = ResultsFolder(name)
    study = open_study(experiment_of(folder))
    scores = load_scores(folder, "loo")
    truth = scores.values[:, -1].mean(axis=0, dtype=np.float64)
    train, test = study.inputs(study.train), study.inputs(study.test)
    members = [load_members(study, seed_id, scores.epochs[-1:])[0] for seed_id in scores.seed_ids]
    rows = [judge("none (Grad-Dot)", None, [(loss_kernel(member, train, test).cross, 0.0) for member in members], truth, 0)]
    for damping in DAMPINGS:
        solvers = [("gauss_newton", by_gauss_newton)] + [("hessian", by_hessian)] * (damping in HESSIAN_DAMPINGS)
        for matrix, solve in solvers:
            start = time.process_time()
            found = [solve(member, train, test, damping) for member in members]
            rows.append(judge(matrix, damping, found, truth, (time.process_time() - start) / len(members)))
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def by_gauss_newton(member: Member, train: Split, test: Split, damping: float) -> tuple[torch.Tensor, float]:
    """Exact, in the dual."""
    return dual_influence(member.model, member.objective, train, test, damping)


def by_hessian(member: Member, train: Split, test: Split, damping: float) -> tuple[torch.Tensor, float]:
    """By MINRES, since the damped Hessian is indefinite."""
    model, objective = member.model, member.objective
    inverse = iterative_inverse(model, objective, train, Solver("hessian", damping, TOLERANCE, MAX_ITERATIONS))
    return bilinear_scores(model, objective, train, test, inverse, inverse)


def judge(
    matrix: str, damping: float | None, found: list[tuple[torch.Tensor, float]], truth: np.ndarray, seconds: float
) -> dict:
    """Correlations of the mean over seeds with leave-one-out, the largest residual, and the processor time of a member."""
    mean = np.mean([scores.double().cpu().numpy() for scores, _ in found], axis=0)
    return {
        "curvature": matrix,
        "damping": damping,
        "pearson_with_loo": np.corrcoef(mean.ravel(), truth.ravel())[0, 1],
        "spearman_with_loo": spearmanr(mean.ravel(), truth.ravel()).statistic,
        "mean_spearman_per_test_example": np.mean([spearmanr(a, b).statistic for a, b in zip(mean.T, truth.T, strict=True)]),
        "largest_residual": max(residual for _, residual in found),
        "processor_seconds_per_member": round(seconds, 2),
    }


if __name__ == "__main__":
    prepare_process()
    for experiment_name in sys.argv[1:] or ["cnn_digits3_10pc", "cnn_mnist3_10pc"]:
        table = compare(experiment_name)
        RESULTS.mkdir(exist_ok=True)
        table.to_csv(RESULTS / f"influence_matrix_{experiment_name}.csv", index=False, float_format="%.4g")
        print(table.to_string())
