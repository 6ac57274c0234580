#!/usr/bin/env bash
# Does differentiation through the training foretell retrainings of the public perceptron? What made the files beside this one.
# From any folder: bash results/reference/mlp_mnist50_500pc/commands.sh; on two shared CPU cores, about an hour and a half.
set -euo pipefail
cd "$(dirname "$0")/../../.."

# MNIST with 50 test examples in place of 500, since a backward pass through the training is for one test example.
root="${TDA_ROOT:-.}"
mkdir -p "$root/tasks"
cat > "$root/tasks/mnist50.py" <<'TASK'
"""MNIST with few test examples."""

from dataclasses import replace

from tda.data.tasks import TASKS

TASK = replace(TASKS["mnist"], name="mnist50", test_per_class=5)
TASK

python run_subset_generation.py --task mnist50 --num_per_class 500
python run_mlp_training.py --model mlp --task mnist50 --num_per_class 500
python run_tda.py --model mlp --task mnist50 --num_per_class 500 --methods trak,grad_dot,kernel_trajectory
python run_tda.py --model mlp --task mnist50 --num_per_class 500 --methods unrolled --num_seeds 4
python run_subset_retraining.py --model mlp --task mnist50 --num_per_class 500 --left_out 0.05 --same_run --num_subsets 30 --num_retrainings 4
python run_subset_retraining.py --model mlp --task mnist50 --num_per_class 500 --left_out 0.5 --same_run --num_subsets 20 --num_retrainings 4
python run_lds_evaluation.py --model mlp --task mnist50 --num_per_class 500 --left_out 0.05 --same_run --num_subsets 30 --num_retrainings 4 --num_checkpoints 1 --num_seeds 4
python run_lds_evaluation.py --model mlp --task mnist50 --num_per_class 500 --left_out 0.5 --same_run --num_subsets 20 --num_retrainings 4 --num_checkpoints 1 --num_seeds 4

# blended_scores.csv: other seeds, and a mixture whose share is chosen on fitting subsets.
python run_subset_retraining.py --model mlp --task mnist50 --num_per_class 500 --purpose fitting --num_subsets 60 --num_retrainings 1
python run_subset_retraining.py --model mlp --task mnist50 --num_per_class 500 --num_subsets 60 --num_retrainings 2
PYTHONPATH=. python benchmarks/blended_scores.py --experiment mlp_mnist50_500pc --num_fitting 60 --num_subsets 60 --num_retrainings 2 --num_seeds 4

# ..._at_half_weight.csv: the same two evaluations and the mixture again after
# python run_tda.py --model mlp --task mnist50 --num_per_class 500 --methods unrolled --unrolled.at_weight 0.5 --num_seeds 4 --force
