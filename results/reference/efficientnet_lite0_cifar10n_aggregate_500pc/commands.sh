#!/usr/bin/env bash
# Which labels that people gave to CIFAR-10 are wrong, and what leaving them out does: what made the files beside this one.
# From any folder: bash results/reference/efficientnet_lite0_cifar10n_aggregate_500pc/commands.sh
# It needs data/cifar10n/human_labels.parquet (docs/adding-a-task.md) and pip install -r req-pretrained.txt -r req-debiasing.txt
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task cifar10n_aggregate --num_per_class 500
python run_image_finetuning.py --model efficientnet_lite0 --task cifar10n_aggregate --num_per_class 500
python run_tda.py --model efficientnet_lite0 --task cifar10n_aggregate --num_per_class 500 --methods trak,grad_dot,grad_cos,ekfac,repsim
python run_score_metrics.py --model efficientnet_lite0 --task cifar10n_aggregate --num_per_class 500 --metrics wrong_labels --self_influence grad_dot,trak,ekfac --suspicions loss,margin,gradient_norm,neighbours,forgetting,area_under_margin,out_of_fold,cleanlab,kernel,kernel_posterior
python run_data_debiasing.py --model efficientnet_lite0 --task cifar10n_aggregate --num_per_class 500 --matter all --methods trak --selections negative,significant,left_out,confident_learning,highest_loss --shares 0.05,0.09 --num_retrainings 5 --random_draws 1 --fold_seeds 2
