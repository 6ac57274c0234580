#!/usr/bin/env bash
# Which of the training digits, a fifth of them with wrong labels, should go: what made the files beside this one.
# From any folder: bash results/reference/cnn_digits3_flipped20_50pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task digits3_flipped20 --num_per_class 50
python run_cnn_training.py --model cnn --task digits3_flipped20 --num_per_class 50
python run_tda.py --model cnn --task digits3_flipped20 --num_per_class 50 --methods trak,grad_dot
python run_data_debiasing.py --model cnn --task digits3_flipped20 --num_per_class 50
