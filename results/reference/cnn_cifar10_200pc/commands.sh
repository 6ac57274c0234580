#!/usr/bin/env bash
# Maps put to the test: what made the files beside this one.
# From any folder: bash results/reference/cnn_cifar10_200pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 200
python run_cnn_training.py --model cnn --task cifar10 --num_per_class 200
python run_map_truth_test.py --model cnn --task cifar10 --num_per_class 200
