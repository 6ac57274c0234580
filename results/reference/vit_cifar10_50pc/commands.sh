#!/usr/bin/env bash
# A cell of the study's grid, on CPU cores beside other work; leave-one-out of three seeds.
# From any folder: bash results/reference/vit_cifar10_50pc/commands.sh
# Code of the tables of p-values and correlations: commit b8904a4.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 50
python run_vit_finetuning.py --model vit --task cifar10 --num_per_class 50
python run_tda.py --model vit --task cifar10 --num_per_class 50 --methods grad_dot,grad_cos,trak
python run_compute_pvalues.py --experiment vit_cifar10_50pc

# summary_two_cores.csv: three seeds of the same networks by the slower methods, and the other methods at as many. Commit 9aca936.
for seed in 0 1 2; do
  python run_tda.py --model vit --task cifar10 --num_per_class 50 --methods loo,if,ats --seed_id "$seed"
done
python run_compute_pvalues.py --experiment vit_cifar10_50pc --num_seeds 3
cp results/vit_cifar10_50pc/summary.csv results/reference/vit_cifar10_50pc/summary_two_cores.csv

# correlation_*.csv and agreement_*.csv, of the same three seeds.
python run_correlation_analysis.py --experiment vit_cifar10_50pc --num_seeds 3
python run_agreement_analysis.py --experiment vit_cifar10_50pc --num_seeds 3

# The published recursion, of three seeds, which are trained anew, in a root folder of its own. Commit ca24cc0.
python run_vit_finetuning.py --model vit --task cifar10 --num_per_class 50 --num_seeds 3
python run_tda.py --model vit --task cifar10 --num_per_class 50 --methods if_lissa --num_seeds 3
python run_compute_pvalues.py --experiment vit_cifar10_50pc --num_seeds 3
grep "^if_lissa," results/vit_cifar10_50pc/summary.csv >> results/reference/vit_cifar10_50pc/summary_two_cores.csv
