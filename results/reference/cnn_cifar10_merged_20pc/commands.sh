#!/usr/bin/env bash
# Do scores see subclasses? Ten classes of CIFAR-10 merged two by two: what made the table beside this file, on two CPU cores.
# From any folder: bash results/reference/cnn_cifar10_merged_20pc/commands.sh
# Code of the table: commit 9aca936.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10_merged --num_per_class 20
python run_cnn_training.py --model cnn --task cifar10_merged --num_per_class 20
python run_tda.py --model cnn --task cifar10_merged --num_per_class 20 --methods grad_dot,grad_cos,trak,repsim
python run_score_metrics.py --model cnn --task cifar10_merged --num_per_class 20 --metrics class,group,overlap,randomised
