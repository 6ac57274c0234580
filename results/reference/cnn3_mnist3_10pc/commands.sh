#!/usr/bin/env bash
# The three-layer CNN at one size: what made the files beside this one.
# From any folder: bash results/reference/cnn3_mnist3_10pc/commands.sh
# Code of the tables of p-values and correlations: commit 1a54d5d.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist3 --num_per_class 10
python run_cnn_training.py --model cnn3 --task mnist3 --num_per_class 10
python run_tda.py --model cnn3 --task mnist3 --num_per_class 10 --methods grad_dot,grad_cos,trak,if,loo,unrolled,ats,if_lissa
python run_compute_pvalues.py --experiment cnn3_mnist3_10pc
python run_correlation_analysis.py --experiment cnn3_mnist3_10pc
python run_agreement_analysis.py --experiment cnn3_mnist3_10pc
