#!/usr/bin/env bash
# How far methods agree with leaving single pairs out, of 150 pairs of Flickr8k: what made the files beside this one.
# From any folder: bash results/reference/clip_flickr8k_150pc/commands.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task flickr8k --num_per_class 150
python run_clip_training.py --task flickr8k --num_per_class 150
python run_tda.py --model clip --task flickr8k --num_per_class 150 --methods trak,grad_dot,grad_cos,ekfac,repsim,image_similarity,caption_similarity
python run_tda.py --model clip --task flickr8k --num_per_class 150 --methods loo --num_seeds 5
python run_compute_pvalues.py --model clip --task flickr8k --num_per_class 150 --num_seeds 5
python run_agreement_analysis.py --model clip --task flickr8k --num_per_class 150 --num_seeds 5
