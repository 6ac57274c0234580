#!/usr/bin/env bash
# Four methods judged by retraining, and maps put to the test: what made the files beside this one.
# From any folder: bash results/reference/cnn_cifar10_50pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 50
python run_cnn_training.py --model cnn --task cifar10 --num_per_class 50
python run_tda.py --model cnn --task cifar10 --num_per_class 50 --methods grad_dot,grad_cos,trak,trak_projected
python run_subset_retraining.py --model cnn --task cifar10 --num_per_class 50 --num_retrainings 2
python run_lds_evaluation.py --experiment cnn_cifar10_50pc --num_retrainings 2
python run_map_truth_test.py --model cnn --task cifar10 --num_per_class 50
