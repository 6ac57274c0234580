#!/usr/bin/env bash
# Four methods judged by retraining, maps put to the test, and a cell of the study's grid: what made the files beside this one.
# From any folder: bash results/reference/cnn_cifar10_50pc/commands.sh
# Code of the tables of p-values and correlations: commit b8904a4.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 50
python run_cnn_training.py --model cnn --task cifar10 --num_per_class 50
python run_tda.py --model cnn --task cifar10 --num_per_class 50 --methods grad_dot,grad_cos,trak,trak_projected
python run_subset_retraining.py --model cnn --task cifar10 --num_per_class 50 --num_retrainings 2
python run_lds_evaluation.py --experiment cnn_cifar10_50pc --num_retrainings 2
python run_map_truth_test.py --model cnn --task cifar10 --num_per_class 50

# The grid's cell was computed apart, on one GPU beside other work, members included; three seeds of leave-one-out were finished.
python run_tda.py --model cnn --task cifar10 --num_per_class 50 --methods grad_dot,grad_cos,trak,loo --num_seeds 3
python run_agreement_analysis.py --experiment cnn_cifar10_50pc --num_seeds 3
python run_compute_pvalues.py --experiment cnn_cifar10_50pc --num_seeds 3
python run_correlation_analysis.py --experiment cnn_cifar10_50pc --num_seeds 3

# summary_two_cores.csv: methods added later, the seeds trained anew, on two processors, in a root folder of its own. Commit 9aca936.
python run_cnn_training.py --model cnn --task cifar10 --num_per_class 50
python run_tda.py --model cnn --task cifar10 --num_per_class 50 --methods grad_dot,grad_cos,trak,if,ats
python run_compute_pvalues.py --experiment cnn_cifar10_50pc
cp results/cnn_cifar10_50pc/summary.csv results/reference/cnn_cifar10_50pc/summary_two_cores.csv
# The derivative through the training, of three seeds, which are trained anew. Commit ca24cc0.
python run_tda.py --model cnn --task cifar10 --num_per_class 50 --methods unrolled --num_seeds 3
python run_compute_pvalues.py --experiment cnn_cifar10_50pc --num_seeds 3
grep "^unrolled," results/cnn_cifar10_50pc/summary.csv >> results/reference/cnn_cifar10_50pc/summary_two_cores.csv
# The published recursion, of the same three seeds.
python run_tda.py --model cnn --task cifar10 --num_per_class 50 --methods if_lissa --num_seeds 3
python run_compute_pvalues.py --experiment cnn_cifar10_50pc --num_seeds 3
grep "^if_lissa," results/cnn_cifar10_50pc/summary.csv >> results/reference/cnn_cifar10_50pc/summary_two_cores.csv
