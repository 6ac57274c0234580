#!/usr/bin/env bash
# LDS of the same runs under a smoother training plan, on a GPU: what made the files beside this one.
# From any folder: bash results/reference/cnn_mnist3_50pc_inside1e-8_rate3e-4_pool/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist3 --num_per_class 50
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 50 --variant inside1e-8_rate3e-4_pool
python run_tda.py --model cnn --task mnist3 --num_per_class 50 --variant inside1e-8_rate3e-4_pool --methods unrolled,grad_dot,trak
python run_subset_retraining.py --model cnn --task mnist3 --num_per_class 50 --variant inside1e-8_rate3e-4_pool --left_out 0.01 --same_run --num_subsets 50 --num_retrainings 5
python run_lds_evaluation.py --model cnn --task mnist3 --num_per_class 50 --variant inside1e-8_rate3e-4_pool --left_out 0.01 --same_run --num_subsets 50 --num_retrainings 5 --num_checkpoints 1 --num_seeds 5
python run_subset_retraining.py --model cnn --task mnist3 --num_per_class 50 --variant inside1e-8_rate3e-4_pool --left_out 0.05 --same_run --num_subsets 50 --num_retrainings 5
python run_lds_evaluation.py --model cnn --task mnist3 --num_per_class 50 --variant inside1e-8_rate3e-4_pool --left_out 0.05 --same_run --num_subsets 50 --num_retrainings 5 --num_checkpoints 1 --num_seeds 5
python run_subset_retraining.py --model cnn --task mnist3 --num_per_class 50 --variant inside1e-8_rate3e-4_pool --left_out 0.5 --same_run --num_subsets 50 --num_retrainings 5
python run_lds_evaluation.py --model cnn --task mnist3 --num_per_class 50 --variant inside1e-8_rate3e-4_pool --left_out 0.5 --same_run --num_subsets 50 --num_retrainings 5 --num_checkpoints 1 --num_seeds 5
