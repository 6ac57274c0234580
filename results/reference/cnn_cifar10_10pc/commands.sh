#!/usr/bin/env bash
# The published study's own methods: what made the files beside this one.
# From any folder: bash results/reference/cnn_cifar10_10pc/commands.sh
# Code of the tables of p-values and correlations: commit 3235d4e.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 10
python run_cnn_training.py --model cnn --task cifar10 --num_per_class 10
python run_tda.py --model cnn --task cifar10 --num_per_class 10 --methods grad_dot,grad_cos,ats,loo,if,if_lissa
python run_compute_pvalues.py --experiment cnn_cifar10_10pc
python run_correlation_analysis.py --experiment cnn_cifar10_10pc

# agreement_*.csv and lds_left_out.csv: of an ensemble of its own, on a GPU, in a root folder of its own (TDA_ROOT).
python run_cnn_training.py --model cnn --task cifar10 --num_per_class 10
python run_tda.py --model cnn --task cifar10 --num_per_class 10 --methods loo,unrolled,grad_dot,if,ekfac,trak
python run_agreement_analysis.py --model cnn --task cifar10 --num_per_class 10
python run_subset_retraining.py --model cnn --task cifar10 --num_per_class 10 --left_out 0.01 --same_run --num_subsets 30 --num_retrainings 5
python run_lds_evaluation.py --model cnn --task cifar10 --num_per_class 10 --left_out 0.01 --same_run --num_subsets 30 --num_retrainings 5 --num_checkpoints 1 --num_seeds 5
python run_subset_retraining.py --model cnn --task cifar10 --num_per_class 10 --left_out 0.05 --same_run --num_subsets 30 --num_retrainings 5
python run_lds_evaluation.py --model cnn --task cifar10 --num_per_class 10 --left_out 0.05 --same_run --num_subsets 30 --num_retrainings 5 --num_checkpoints 1 --num_seeds 5

# variance_*.csv, on the processors, in a root folder of its own.
python run_variance_components.py --model cnn --task cifar10 --num_per_class 10 --methods loo,grad_dot --num_starts 3 --num_orders 3
cp results/cnn_cifar10_10pc/variance_components.csv results/reference/cnn_cifar10_10pc/variance_components_3x3.csv
cp results/cnn_cifar10_10pc/variance_p_values.csv results/reference/cnn_cifar10_10pc/variance_p_values_3x3.csv
python run_variance_components.py --model cnn --task cifar10 --num_per_class 10 --methods grad_dot --num_starts 4 --num_orders 5

# metasmoothness.csv, on the processors.
python run_metasmoothness.py --task cifar10 --num_per_class 10 --variants inside1e-8_rate3e-4,inside1e-6_rate3e-4_pool --removed 1,5 --num_directions 3 --num_seeds 2

# summary_two_cores.csv: methods added later, the seeds trained anew, to the same networks, bit for bit, in a root folder of its own. Commit 9aca936.
python run_cnn_training.py --model cnn --task cifar10 --num_per_class 10
python run_tda.py --model cnn --task cifar10 --num_per_class 10 --methods grad_dot,grad_cos,trak,unrolled
python run_compute_pvalues.py --experiment cnn_cifar10_10pc
cp results/cnn_cifar10_10pc/summary.csv results/reference/cnn_cifar10_10pc/summary_two_cores.csv

# score_metrics.csv, in the same root folder.
python run_score_metrics.py --experiment cnn_cifar10_10pc --metrics class,overlap,randomised --methods grad_cos,grad_dot,trak,unrolled
