#!/usr/bin/env bash
# A patch on half of the airplanes of CIFAR-10 misleads; which examples should go? What made the files beside this one.
# From any folder: bash results/reference/efficientnet_lite0_cifar10_more_patched50_500pc/commands.sh
# It needs pip install -r req-pretrained.txt
set -euo pipefail
cd "$(dirname "$0")/../../.."

# CIFAR-10 with 200 test images a class in place of 50, since the accuracy of a group is judged.
root="${TDA_ROOT:-.}"
mkdir -p "$root/tasks"
cat > "$root/tasks/cifar10_more.py" <<'TASK'
"""CIFAR-10 with 200 test examples a class."""

from dataclasses import replace

from tda.data.tasks import TASKS

TASK = replace(TASKS["cifar10"], name="cifar10_more", title="CIFAR-10 with 200 test images a class", test_per_class=200)
TASK

python run_subset_generation.py --task cifar10_more_patched50 --num_per_class 500
python run_image_finetuning.py --model efficientnet_lite0 --task cifar10_more_patched50 --num_per_class 500 --num_seeds 5
python run_tda.py --model efficientnet_lite0 --task cifar10_more_patched50 --num_per_class 500 --num_seeds 5 --methods trak,grad_dot
python run_data_debiasing.py --model efficientnet_lite0 --task cifar10_more_patched50 --num_per_class 500 --num_seeds 5 --num_retrainings 5 --matter groups --groups known,auto --methods trak,grad_dot --selections negative,significant,group_balanced,class_balanced,highest_loss --actions remove --shares 0.01,0.02,0.05
