#!/usr/bin/env bash
# A cell of the study's grid, on one GPU beside other cells: what made the files beside this one.
# From any folder: bash results/reference/vit_mnist3_20pc/commands.sh
# Code of the tables of p-values and correlations: commit c75bea2.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist3 --num_per_class 20
python run_vit_finetuning.py --model vit --task mnist3 --num_per_class 20
python run_tda.py --model vit --task mnist3 --num_per_class 20 --methods grad_dot,grad_cos,loo
python run_agreement_analysis.py --experiment vit_mnist3_20pc
python run_compute_pvalues.py --experiment vit_mnist3_20pc
python run_correlation_analysis.py --experiment vit_mnist3_20pc

# summary_two_cores.csv: methods added later, the seeds trained anew, on two processors, in a root folder of its own. Commit 9aca936.
python run_vit_finetuning.py --model vit --task mnist3 --num_per_class 20
python run_tda.py --model vit --task mnist3 --num_per_class 20 --methods ats,grad_dot,if,if_lissa,trak,unrolled
python run_compute_pvalues.py --experiment vit_mnist3_20pc
cp results/vit_mnist3_20pc/summary.csv results/reference/vit_mnist3_20pc/summary_two_cores.csv
