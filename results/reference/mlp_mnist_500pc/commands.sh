#!/usr/bin/env bash
# A public setting of the field judged by retraining: what made the files beside this one.
# From any folder: bash results/reference/mlp_mnist_500pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist --num_per_class 500
python run_mlp_training.py --model mlp --task mnist --num_per_class 500
python run_subset_retraining.py --model mlp --task mnist --num_per_class 500 --purpose evaluation --num_subsets 100 --num_retrainings 6
python run_subset_retraining.py --model mlp --task mnist --num_per_class 500 --purpose fitting --num_subsets 200 --num_retrainings 1
python run_tda.py --model mlp --task mnist --num_per_class 500 --methods kernel_trajectory
python run_tda.py --model mlp --task mnist --num_per_class 500 --methods grad_dot,grad_cos,repsim,repdot,ekfac,trak,trak_projected
python run_tda.py --model mlp --task mnist --num_per_class 500 --methods if --if.damping 0.02 --if.matrix heaviest_rows
python run_tda.py --model mlp --task mnist --num_per_class 500 --methods datamodels,empirical_influence --datamodels.num_subsets 20 --empirical_influence.num_subsets 20
python run_lds_evaluation.py --experiment mlp_mnist_500pc
python run_removal_evaluation.py --experiment mlp_mnist_500pc --methods kernel_trajectory,trak,grad_dot --shares 0.05 --num_test 12 --num_retrainings 2
python run_mislabel_detection.py --model mlp --task mnist --num_per_class 500
