#!/usr/bin/env bash
# A public setting of the field judged by retraining: what made the files beside this one.
# From any folder: bash results/reference/lr_mnist_500pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist --num_per_class 500
python run_mlp_training.py --model lr --task mnist --num_per_class 500
python run_subset_retraining.py --model lr --task mnist --num_per_class 500 --purpose evaluation --num_subsets 100 --num_retrainings 6
python run_subset_retraining.py --model lr --task mnist --num_per_class 500 --purpose fitting --num_subsets 200 --num_retrainings 1
python run_damping_choice.py --model lr --task mnist --num_per_class 500 --method if --setting damping --candidates 0.004,0.012,0.04,0.12 --num_subsets 100
python run_tda.py --model lr --task mnist --num_per_class 500 --methods kernel_trajectory,if_trajectory
python run_tda.py --model lr --task mnist --num_per_class 500 --methods grad_dot,grad_cos,repsim,repdot,ekfac,trak,trak_projected
python run_tda.py --model lr --task mnist --num_per_class 500 --methods if --if.damping 0.012
python run_tda.py --model lr --task mnist --num_per_class 500 --methods datamodels,empirical_influence --datamodels.num_subsets 20 --empirical_influence.num_subsets 20
python run_lds_evaluation.py --experiment lr_mnist_500pc

# lds_left_out.csv: four members' own runs.
python run_tda.py --model lr --task mnist --num_per_class 500 --methods unrolled,grad_dot,trak --num_seeds 4
python run_subset_retraining.py --model lr --task mnist --num_per_class 500 --left_out 0.05 --same_run --num_subsets 30 --num_retrainings 4
python run_lds_evaluation.py --model lr --task mnist --num_per_class 500 --left_out 0.05 --same_run --num_subsets 30 --num_retrainings 4 --num_checkpoints 1 --num_seeds 4
python run_subset_retraining.py --model lr --task mnist --num_per_class 500 --left_out 0.5 --same_run --num_subsets 30 --num_retrainings 4
python run_lds_evaluation.py --model lr --task mnist --num_per_class 500 --left_out 0.5 --same_run --num_subsets 30 --num_retrainings 4 --num_checkpoints 1 --num_seeds 4
