#!/usr/bin/env bash
# A cell of the study's grid, on one GPU beside other cells: what made the files beside this one.
# From any folder: bash results/reference/vit_mnist3_50pc/commands.sh
# Code of the tables of p-values and correlations: commit c75bea2.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist3 --num_per_class 50
python run_vit_finetuning.py --model vit --task mnist3 --num_per_class 50 --num_seeds 6
python run_tda.py --model vit --task mnist3 --num_per_class 50 --methods grad_dot,grad_cos,loo --num_seeds 6
python run_agreement_analysis.py --experiment vit_mnist3_50pc --num_seeds 6
python run_compute_pvalues.py --experiment vit_mnist3_50pc --num_seeds 6
python run_correlation_analysis.py --experiment vit_mnist3_50pc --num_seeds 6

# summary_two_cores.csv: methods added later, the seeds trained anew, on two processors, in a root folder of its own. Commit 9aca936.
python run_vit_finetuning.py --model vit --task mnist3 --num_per_class 50
python run_tda.py --model vit --task mnist3 --num_per_class 50 --methods grad_dot,grad_cos,trak,if
python run_compute_pvalues.py --experiment vit_mnist3_50pc
cp results/vit_mnist3_50pc/summary.csv results/reference/vit_mnist3_50pc/summary_two_cores.csv
# The slowest of them, of six seeds.
python run_tda.py --model vit --task mnist3 --num_per_class 50 --methods ats --num_seeds 6
python run_compute_pvalues.py --experiment vit_mnist3_50pc --num_seeds 6
grep "^ats," results/vit_mnist3_50pc/summary.csv >> results/reference/vit_mnist3_50pc/summary_two_cores.csv
# The derivative through the training, of three seeds, which are trained anew. Commit ca24cc0.
python run_tda.py --model vit --task mnist3 --num_per_class 50 --methods unrolled --num_seeds 3
python run_compute_pvalues.py --experiment vit_mnist3_50pc --num_seeds 3
grep "^unrolled," results/vit_mnist3_50pc/summary.csv >> results/reference/vit_mnist3_50pc/summary_two_cores.csv
# The published recursion, of the same three seeds.
python run_tda.py --model vit --task mnist3 --num_per_class 50 --methods if_lissa --num_seeds 3
python run_compute_pvalues.py --experiment vit_mnist3_50pc --num_seeds 3
grep "^if_lissa," results/vit_mnist3_50pc/summary.csv >> results/reference/vit_mnist3_50pc/summary_two_cores.csv
