#!/usr/bin/env bash
# A planted shortcut: what made the files beside this one.
# From any folder: bash results/reference/cnn_cifar10_200pc_shortcut/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10 --num_per_class 200
python run_shortcut_study.py --model cnn --task cifar10 --num_per_class 200 --num_test 10
