#!/usr/bin/env bash
# BERT with adapters on QNLI, judged by retraining on halves: what made the files beside this one.
# From any folder: bash results/reference/bert_qnli_1250pc/commands.sh
# The trainings and retrainings were done on one GPU beside other work, the scores of one processor core each.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task qnli --num_per_class 1250
python run_text_finetuning.py --task qnli --num_per_class 1250 --trained lora --upper_layers 0
python run_subset_retraining.py --model bert --task qnli --num_per_class 1250 --num_subsets 100 --num_retrainings 2
python run_tda.py --model bert --task qnli --num_per_class 1250 --methods trak,grad_cos,grad_dot,tracin,gas,repsim,repdot,bm25,embedding_similarity
python run_compute_pvalues.py --model bert --task qnli --num_per_class 1250
python run_correlation_analysis.py --model bert --task qnli --num_per_class 1250
python run_lds_evaluation.py --model bert --task qnli --num_per_class 1250 --num_subsets 100 --num_retrainings 2
cp results/bert_qnli_1250pc/lds*.csv results/bert_qnli_1250pc/lds*.png results/reference/bert_qnli_1250pc/
# What one run alone was scored by: lds_one_run.csv.
python run_subset_retraining.py --model bert --task qnli --num_per_class 1250 --purpose fitting --num_subsets 40 --num_retrainings 1
python run_tda.py --model bert --task qnli --num_per_class 1250 --seed_id 0 --methods datamodels,empirical_influence --datamodels.num_subsets 40 --empirical_influence.num_subsets 40
python run_tda.py --model bert --task qnli --num_per_class 1250 --seed_id 0 --methods if,ekfac,trak_projected
python run_tda.py --model bert --task qnli --num_per_class 1250 --seed_id 0 --methods if_arnoldi --if_arnoldi.hessian_examples 625
python run_lds_evaluation.py --model bert --task qnli --num_per_class 1250 --num_seeds 1 --num_subsets 100 --num_retrainings 2
cp results/bert_qnli_1250pc/lds.csv results/reference/bert_qnli_1250pc/lds_one_run.csv
python run_removal_evaluation.py --model bert --task qnli --num_per_class 1250 --methods trak --shares 0.2 --num_test 4 --num_retrainings 1
# lds_one_run_early_epochs.csv: seed 0 trained again with its first two epochs kept, on a processor, in a root folder of its own
# (TDA_ROOT) with the retrainings of above.
python run_text_finetuning.py --task qnli --num_per_class 1250 --trained lora --upper_layers 0 --seed_id 0 --early_epochs 1,2
python run_tda.py --model bert --task qnli --num_per_class 1250 --seed_id 0 --methods kernel_trajectory --kernel_trajectory.early_epochs 1,2
python run_tda.py --model bert --task qnli --num_per_class 1250 --seed_id 0 --methods unrolled --unrolled.curvature gauss_newton
python run_tda.py --model bert --task qnli --num_per_class 1250 --seed_id 0 --methods source --source.early_epochs 1,2
python run_lds_evaluation.py --model bert --task qnli --num_per_class 1250 --num_seeds 1 --num_subsets 100 --num_retrainings 2
