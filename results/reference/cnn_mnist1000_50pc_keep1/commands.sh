#!/usr/bin/env bash
# Networks that learn from 500 images of ten digits: what made the files beside this one.
# From any folder: bash results/reference/cnn_mnist1000_50pc_keep1/commands.sh; on two CPU cores, one processor minute.
set -euo pipefail
cd "$(dirname "$0")/../../.."

# MNIST with 1,000 test images in place of 500.
root="${TDA_ROOT:-.}"
mkdir -p "$root/tasks"
cat > "$root/tasks/mnist1000.py" <<'TASK'
"""MNIST with 100 test images a digit."""

from dataclasses import replace

from tda.data.tasks import TASKS

TASK = replace(TASKS["mnist"], name="mnist1000", test_per_class=100)
TASK

python run_subset_generation.py --task mnist1000 --num_per_class 50
python run_cnn_training.py --task mnist1000 --num_per_class 50 --variant keep1 --num_seeds 5
python run_tda.py --task mnist1000 --num_per_class 50 --variant keep1 --methods grad_dot,grad_cos,trak_projected --num_seeds 5
python run_tda.py --task mnist1000 --num_per_class 50 --variant keep1 --methods ekfac --ekfac.matrix sampled_fisher --num_seeds 5
python run_compute_pvalues.py --experiment cnn_mnist1000_50pc_keep1 --num_seeds 5

# seed_agreement.csv
PYTHONPATH=. python benchmarks/seed_agreement.py 5 cnn_mnist1000_50pc_keep1
