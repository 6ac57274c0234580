#!/usr/bin/env bash
# A cell of the study's grid, on one GPU beside other cells: what made the files beside this one.
# From any folder: bash results/reference/vit_cifar10_20pc/commands.sh
# Code of the tables of p-values and correlations: commit c75bea2.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 20
python run_vit_finetuning.py --model vit --task cifar10 --num_per_class 20 --num_seeds 3
python run_tda.py --model vit --task cifar10 --num_per_class 20 --methods grad_dot,grad_cos,loo --num_seeds 3
python run_agreement_analysis.py --experiment vit_cifar10_20pc --num_seeds 3
python run_compute_pvalues.py --experiment vit_cifar10_20pc --num_seeds 3
python run_correlation_analysis.py --experiment vit_cifar10_20pc --num_seeds 3

# summary_two_cores.csv: methods added later, the seeds trained anew, on two processors, in a root folder of its own. Commit 9aca936.
python run_vit_finetuning.py --model vit --task cifar10 --num_per_class 20 --num_seeds 3
python run_tda.py --model vit --task cifar10 --num_per_class 20 --num_seeds 3 --methods grad_dot,grad_cos,trak,if,if_lissa,ats
python run_compute_pvalues.py --experiment vit_cifar10_20pc
cp results/vit_cifar10_20pc/summary.csv results/reference/vit_cifar10_20pc/summary_two_cores.csv
# The derivative through the training, of three seeds, which are trained anew. Commit ca24cc0.
python run_tda.py --model vit --task cifar10 --num_per_class 20 --methods unrolled --num_seeds 3
python run_compute_pvalues.py --experiment vit_cifar10_20pc --num_seeds 3
grep "^unrolled," results/vit_cifar10_20pc/summary.csv >> results/reference/vit_cifar10_20pc/summary_two_cores.csv

# summary_linearised_steps.csv: the same with every step linearised, of the same three seeds, in place of the exact derivative.
python run_tda.py --model vit --task cifar10 --num_per_class 20 --methods unrolled --unrolled.curvature gauss_newton --num_seeds 3 --force
python run_compute_pvalues.py --experiment vit_cifar10_20pc --num_seeds 3
grep "^method,\|^unrolled," results/vit_cifar10_20pc/summary.csv > results/reference/vit_cifar10_20pc/summary_linearised_steps.csv
