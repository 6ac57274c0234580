#!/usr/bin/env bash
# The study of fourteen methods, five judged by retraining, and a figure of maps: what made the files beside this one.
# From any folder: bash results/reference/cnn_mnist3_50pc/commands.sh
# Code of the tables of p-values and correlations: commit 2d96c3f.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist3 --num_per_class 50
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 50

# A table holds the methods that have scores when it is made: first the five that are judged by retraining.
python run_tda.py --model cnn --task mnist3 --num_per_class 50 --methods grad_dot,grad_cos,trak,trak_projected,trak_kernels
python run_subset_retraining.py --model cnn --task mnist3 --num_per_class 50 --num_retrainings 2
python run_lds_evaluation.py --experiment cnn_mnist3_50pc --num_retrainings 2
rm -r "${TDA_ROOT:-.}/results/cnn_mnist3_50pc/tda_scores/trak_kernels"

python run_tda.py --model cnn --task mnist3 --num_per_class 50 --methods all
python run_compute_pvalues.py --experiment cnn_mnist3_50pc
python run_correlation_analysis.py --experiment cnn_mnist3_50pc
python run_feature_attribution.py --model cnn --task mnist3 --num_per_class 50 --tests misclassified --num_test 3

# agreement_*.csv and lds_left_out.csv: of an ensemble of its own, on a GPU, in a root folder of its own (TDA_ROOT).
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 50
python run_tda.py --model cnn --task mnist3 --num_per_class 50 --methods loo,unrolled,grad_dot,grad_cos,if,ekfac,trak,if_lissa,ats
python run_agreement_analysis.py --model cnn --task mnist3 --num_per_class 50
python run_subset_retraining.py --model cnn --task mnist3 --num_per_class 50 --left_out 0.01 --same_run --num_subsets 50 --num_retrainings 5
python run_lds_evaluation.py --model cnn --task mnist3 --num_per_class 50 --left_out 0.01 --same_run --num_subsets 50 --num_retrainings 5 --num_checkpoints 1 --num_seeds 5
python run_subset_retraining.py --model cnn --task mnist3 --num_per_class 50 --left_out 0.05 --same_run --num_subsets 50 --num_retrainings 5
python run_lds_evaluation.py --model cnn --task mnist3 --num_per_class 50 --left_out 0.05 --same_run --num_subsets 50 --num_retrainings 5 --num_checkpoints 1 --num_seeds 5
python run_subset_retraining.py --model cnn --task mnist3 --num_per_class 50 --left_out 0.5 --same_run --num_subsets 50 --num_retrainings 5
python run_lds_evaluation.py --model cnn --task mnist3 --num_per_class 50 --left_out 0.5 --same_run --num_subsets 50 --num_retrainings 5 --num_checkpoints 1 --num_seeds 5

# metasmoothness.csv, on the processors.
python run_metasmoothness.py --task mnist3 --num_per_class 50 --variants inside1e-8,inside1e-8_rate3e-4,inside1e-8_rate3e-4_pool --removed 1,8 --num_directions 4 --num_seeds 5

# variance_*.csv, on the processors, in a root folder of its own.
python run_variance_components.py --model cnn --task mnist3 --num_per_class 50 --methods loo,grad_dot --num_starts 3 --num_orders 3
cp results/cnn_mnist3_50pc/variance_components.csv results/reference/cnn_mnist3_50pc/variance_components_3x3.csv
cp results/cnn_mnist3_50pc/variance_p_values.csv results/reference/cnn_mnist3_50pc/variance_p_values_3x3.csv
python run_variance_components.py --model cnn --task mnist3 --num_per_class 50 --methods grad_dot --num_starts 5 --num_orders 5

# summary_two_cores.csv: methods added later, the seeds trained anew, to the same networks, bit for bit, in a root folder of its own. Commit 9aca936.
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 50
python run_tda.py --model cnn --task mnist3 --num_per_class 50 --methods grad_dot,grad_cos,unrolled
python run_compute_pvalues.py --experiment cnn_mnist3_50pc
cp results/cnn_mnist3_50pc/summary.csv results/reference/cnn_mnist3_50pc/summary_two_cores.csv
