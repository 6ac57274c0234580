#!/usr/bin/env bash
# 100 training and 10 test images of networks that learn from all of MNIST, leave-one-out included.
# From any folder: bash results/reference/cnn_mnist10_whole_10pc_epochs1/commands.sh; training and LOO were done on a GPU.
set -euo pipefail
cd "$(dirname "$0")/../../.."

# MNIST with 10 test images in place of 500.
root="${TDA_ROOT:-.}"
mkdir -p "$root/tasks"
cat > "$root/tasks/mnist10.py" <<'TASK'
"""MNIST with one test image a digit."""

from dataclasses import replace

from tda.data.tasks import TASKS

TASK = replace(TASKS["mnist"], name="mnist10", test_per_class=1)
TASK

python run_subset_generation.py --task mnist10_whole --num_per_class 10
python run_cnn_training.py --task mnist10_whole --num_per_class 10 --variant epochs1 --num_seeds 3 --device cuda
python run_tda.py --task mnist10_whole --num_per_class 10 --variant epochs1 --methods loo --num_seeds 3 --device cuda
python run_tda.py --task mnist10_whole --num_per_class 10 --variant epochs1 --methods grad_dot,grad_cos,ats,trak_projected --num_seeds 3 --device cpu
python run_compute_pvalues.py --experiment cnn_mnist10_whole_10pc_epochs1 --num_seeds 3
python run_correlation_analysis.py --experiment cnn_mnist10_whole_10pc_epochs1 --num_seeds 3

# seed_agreement.csv
PYTHONPATH=. python benchmarks/seed_agreement.py 3 cnn_mnist10_whole_10pc_epochs1
