#!/usr/bin/env bash
# BERT with adapters on 800 pairs of QNLI: agreement of runs, and wrong labels; what made the files beside this one.
# From any folder: bash results/reference/bert_qnli_400pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task qnli --num_per_class 400
python run_text_finetuning.py --task qnli --num_per_class 400 --trained lora --upper_layers 0 --num_seeds 4
python run_tda.py --model bert --task qnli --num_per_class 400 --num_seeds 3 --methods grad_dot,grad_cos,trak,bm25,embedding_similarity
python run_compute_pvalues.py --model bert --task qnli --num_per_class 400 --num_seeds 3
python run_report.py --model bert --task qnli --num_per_class 400 --num_seeds 3
python run_mislabel_detection.py --model bert --task qnli --num_per_class 400 --methods grad_dot,trak --seed_id 0
python run_mislabel_detection.py --model bert --task qnli --num_per_class 400 --methods grad_dot,trak --seed_id 1
