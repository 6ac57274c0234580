#!/usr/bin/env bash
# A cell of the study's grid, on CPU cores beside other work, without tables of leave-one-out, of which one seed is finished.
# From any folder: bash results/reference/vit_cifar10_50pc/commands.sh
# Code of the tables of p-values and correlations: commit b8904a4.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 50
python run_vit_finetuning.py --model vit --task cifar10 --num_per_class 50
python run_tda.py --model vit --task cifar10 --num_per_class 50 --methods grad_dot,grad_cos,trak
python run_compute_pvalues.py --experiment vit_cifar10_50pc
python run_correlation_analysis.py --experiment vit_cifar10_50pc

# The correlations of one seed that docs/results.md names.
python run_tda.py --model vit --task cifar10 --num_per_class 50 --methods loo --seed_id 0
