#!/usr/bin/env bash
# Networks that learn from 100 images of ten digits: what made the files beside this one.
# From any folder: bash results/reference/cnn_mnist10_10pc/commands.sh; on two CPU cores, three processor minutes.
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

python run_subset_generation.py --task mnist10 --num_per_class 10
python run_cnn_training.py --task mnist10 --num_per_class 10 --num_seeds 3
python run_tda.py --task mnist10 --num_per_class 10 --methods loo,ats,grad_dot,grad_cos,trak_projected,trak,ekfac,if --num_seeds 3
python run_compute_pvalues.py --experiment cnn_mnist10_10pc --num_seeds 3
python run_correlation_analysis.py --experiment cnn_mnist10_10pc --num_seeds 3

# seed_agreement.csv
PYTHONPATH=. python benchmarks/seed_agreement.py 3 cnn_mnist10_10pc
