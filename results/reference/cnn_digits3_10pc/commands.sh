#!/usr/bin/env bash
# The study of fourteen methods: what made the files beside this one.
# From any folder: bash results/reference/cnn_digits3_10pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task digits3 --num_per_class 10
python run_cnn_training.py --model cnn --task digits3 --num_per_class 10
python run_tda.py --model cnn --task digits3 --num_per_class 10 --methods all
python run_compute_pvalues.py --experiment cnn_digits3_10pc
python run_correlation_analysis.py --experiment cnn_digits3_10pc
python run_metasmoothness.py --task digits3 --num_per_class 10 --variants inside1e-8,inside1e-8_rate3e-4 --removed 1,8,15 --num_directions 6 --num_seeds 3

# seeds_needed.csv, .png and seed_test_errors.csv: of fifty seeds, on the processors, in a root folder of its own (TDA_ROOT), whose
# random_seeds.pt holds the ten and behind them torch.randint(2**31, (40,), generator=torch.Generator().manual_seed(0)).
python run_cnn_training.py --model cnn --task digits3 --num_per_class 10
python run_tda.py --model cnn --task digits3 --num_per_class 10 --methods grad_dot,grad_cos,trak,if,loo
python run_seeds_needed.py --experiment cnn_digits3_10pc
