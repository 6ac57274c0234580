#!/usr/bin/env bash
# The published study's own methods: what made the files beside this one.
# From any folder: bash results/reference/vit_mnist3_10pc/commands.sh
# Code of the tables of p-values and correlations: commit 915135e.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist3 --num_per_class 10
python run_vit_finetuning.py --model vit --task mnist3 --num_per_class 10
python run_tda.py --model vit --task mnist3 --num_per_class 10 --methods grad_dot,grad_cos,ats,loo,if,if_lissa
python run_compute_pvalues.py --experiment vit_mnist3_10pc
python run_correlation_analysis.py --experiment vit_mnist3_10pc

# agreement_*.csv: of an ensemble of its own, on a GPU, in a root folder of its own (TDA_ROOT).
python run_vit_finetuning.py --model vit --task mnist3 --num_per_class 10
python run_tda.py --model vit --task mnist3 --num_per_class 10 --methods loo,unrolled,grad_dot,grad_cos,if,ekfac,trak
python run_agreement_analysis.py --model vit --task mnist3 --num_per_class 10

# summary_two_cores.csv: methods added later, the seeds trained anew, to the same networks, bit for bit, in a root folder of its own. Commit 9aca936.
python run_vit_finetuning.py --model vit --task mnist3 --num_per_class 10
python run_tda.py --model vit --task mnist3 --num_per_class 10 --methods grad_dot,grad_cos,trak,unrolled
python run_compute_pvalues.py --experiment vit_mnist3_10pc
cp results/vit_mnist3_10pc/summary.csv results/reference/vit_mnist3_10pc/summary_two_cores.csv

# score_metrics.csv, in the same root folder.
python run_score_metrics.py --experiment vit_mnist3_10pc --metrics class,overlap,randomised --methods grad_cos,grad_dot,trak,unrolled
