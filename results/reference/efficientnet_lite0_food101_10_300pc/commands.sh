#!/usr/bin/env bash
# Food-101's first ten classes, 300 noisy training images each at 128 pixels: what made the files beside this one.
# From any folder: bash results/reference/efficientnet_lite0_food101_10_300pc/commands.sh
# It needs the images in data/food101_10/ (docs/adding-a-task.md) and pip install -r req-pretrained.txt -r req-debiasing.txt
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task food101_10 --num_per_class 300
python run_image_finetuning.py --model efficientnet_lite0 --task food101_10 --num_per_class 300
python run_tda.py --model efficientnet_lite0 --task food101_10 --num_per_class 300 --methods trak,grad_dot
python run_data_debiasing.py --model efficientnet_lite0 --task food101_10 --num_per_class 300 --matter all --methods trak,grad_dot --selections negative,significant,positive,left_out,confident_learning,highest_loss --actions remove --shares 0.02,0.05,0.10,0.20 --num_retrainings 5 --random_draws 1 --fold_seeds 2
