#!/usr/bin/env bash
# The study of fourteen methods: what made the files beside this one.
# From any folder: bash results/reference/vit_digits3_10pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task digits3 --num_per_class 10
python run_vit_finetuning.py --model vit --task digits3 --num_per_class 10
python run_tda.py --model vit --task digits3 --num_per_class 10 --methods all
python run_compute_pvalues.py --experiment vit_digits3_10pc
python run_correlation_analysis.py --experiment vit_digits3_10pc

# agreement_*.csv: of an ensemble of its own, on a GPU, in a root folder of its own (TDA_ROOT).
python run_vit_finetuning.py --model vit --task digits3 --num_per_class 10
python run_tda.py --model vit --task digits3 --num_per_class 10 --methods loo,unrolled,grad_dot,grad_cos,if,ekfac,trak
python run_agreement_analysis.py --model vit --task digits3 --num_per_class 10
