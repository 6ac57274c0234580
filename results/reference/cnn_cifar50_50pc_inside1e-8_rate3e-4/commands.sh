#!/usr/bin/env bash
# Does the derivative through a smoother training on 500 images of CIFAR-10 foretell removals? What made the files beside this one.
# From any folder: bash results/reference/cnn_cifar50_50pc_inside1e-8_rate3e-4/commands.sh; about two hours of one processor core.
set -euo pipefail
cd "$(dirname "$0")/../../.."

# CIFAR-10 with 50 test examples in place of 500.
root="${TDA_ROOT:-.}"
mkdir -p "$root/tasks"
cat > "$root/tasks/cifar50.py" <<'TASK'
"""CIFAR-10 with few test examples."""

from dataclasses import replace

from tda.data.tasks import TASKS

TASK = replace(TASKS["cifar10"], name="cifar50", test_per_class=5)
TASK

python run_subset_generation.py --task cifar50 --num_per_class 50
python run_cnn_training.py --model cnn --task cifar50 --num_per_class 50 --variant inside1e-8_rate3e-4 --num_seeds 2
python run_tda.py --model cnn --task cifar50 --num_per_class 50 --variant inside1e-8_rate3e-4 --methods trak,grad_dot,unrolled --num_seeds 2
for left_out in 0.01 0.05 0.5; do
  python run_subset_retraining.py --model cnn --task cifar50 --num_per_class 50 --variant inside1e-8_rate3e-4 --left_out $left_out --same_run --num_subsets 20 --num_retrainings 2
  python run_lds_evaluation.py --model cnn --task cifar50 --num_per_class 50 --variant inside1e-8_rate3e-4 --left_out $left_out --same_run --num_subsets 20 --num_retrainings 2 --num_checkpoints 1 --num_seeds 2
done
