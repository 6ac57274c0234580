#!/usr/bin/env bash
# Which pairs of Flickr8k make two frozen towers bring a photograph and its caption together: what made the files beside this one.
# From any folder: bash results/reference/clip_flickr8k_1500pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task flickr8k --num_per_class 1500
python run_clip_training.py --task flickr8k --num_per_class 1500
python run_tda.py --model clip --task flickr8k --num_per_class 1500 --methods trak,grad_cos,repsim,image_similarity,caption_similarity
python run_compute_pvalues.py --experiment clip_flickr8k_1500pc
python run_pair_removal.py --task flickr8k --num_per_class 1500

# lds*.csv, of more methods.
python run_tda.py --model clip --task flickr8k --num_per_class 1500 --methods trak_projected,grad_dot,ekfac,embedding_similarity
python run_subset_retraining.py --experiment clip_flickr8k_1500pc --num_subsets 100 --num_retrainings 5
python run_lds_evaluation.py --experiment clip_flickr8k_1500pc --num_subsets 100 --num_retrainings 5
python run_compute_pvalues.py --experiment clip_flickr8k_1500pc
