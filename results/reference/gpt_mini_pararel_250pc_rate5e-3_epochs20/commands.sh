#!/usr/bin/env bash
# Which training sentences of ParaRel state a fact, and which make a small GPT-2 give it: what made the files beside this one.
# From any folder: bash results/reference/gpt_mini_pararel_250pc_rate5e-3_epochs20/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task pararel --num_per_class 250
python run_language_training.py --model gpt_mini --task pararel --num_per_class 250 --variant epochs20_rate5e-3
python run_tda.py --model gpt_mini --task pararel --num_per_class 250 --variant epochs20_rate5e-3 --methods grad_dot,grad_cos,repsim,bm25,embedding_similarity,trak
python run_fact_tracing.py --model gpt_mini --task pararel --num_per_class 250 --variant epochs20_rate5e-3 --num_facts 16 --removed_by trak,grad_cos,bm25 --num_retrainings 2 --significance_of trak --alone 4
python run_fact_tracing.py --model gpt_mini --task pararel --num_per_class 250 --variant epochs20_rate5e-3 --num_facts 16 --removed 1 --removed_by trak,grad_cos,bm25 --num_retrainings 2 --significance_of trak
