#!/usr/bin/env bash
# Which questions of ParaRel state a fact, and which make a small T5 answer it: what made the files beside this one.
# From any folder: bash results/reference/t5_mini_pararel_questions_250pc_rate5e-3_epochs60/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task pararel_questions --num_per_class 250
python run_language_training.py --model t5_mini --task pararel_questions --num_per_class 250 --variant epochs60_rate5e-3 --num_seeds 3
python run_tda.py --model t5_mini --task pararel_questions --num_per_class 250 --variant epochs60_rate5e-3 --num_seeds 3 --methods grad_dot,grad_cos,repsim,bm25,embedding_similarity,trak
python run_fact_tracing.py --model t5_mini --task pararel_questions --num_per_class 250 --variant epochs60_rate5e-3 --num_seeds 3 --num_facts 16 --removed_by trak,grad_cos,bm25 --num_retrainings 2 --facts_at_once 16
