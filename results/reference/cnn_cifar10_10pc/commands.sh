#!/usr/bin/env bash
# The published study's own methods: what made the files beside this one.
# From any folder: bash results/reference/cnn_cifar10_10pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 10
python run_cnn_training.py --model cnn --task cifar10 --num_per_class 10
python run_tda.py --model cnn --task cifar10 --num_per_class 10 --methods grad_dot,grad_cos,ats,loo,if,if_lissa
python run_compute_pvalues.py --experiment cnn_cifar10_10pc
python run_correlation_analysis.py --experiment cnn_cifar10_10pc
