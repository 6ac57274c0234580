#!/usr/bin/env bash
# The study of fourteen methods: what made the files beside this one.
# From any folder: bash results/reference/cnn_mnist3_10pc/commands.sh
# Code of the tables of p-values and correlations: commit 2d96c3f.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python run_subset_generation.py --task mnist3 --num_per_class 10
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 10
python run_tda.py --model cnn --task mnist3 --num_per_class 10 --methods all
python run_compute_pvalues.py --experiment cnn_mnist3_10pc
python run_correlation_analysis.py --experiment cnn_mnist3_10pc

# agreement_*.csv: of an ensemble of its own, on a GPU, in a root folder of its own (TDA_ROOT).
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 10
python run_tda.py --model cnn --task mnist3 --num_per_class 10 --methods loo,unrolled,grad_dot,grad_cos,if,ekfac,trak,if_lissa,ats
python run_agreement_analysis.py --model cnn --task mnist3 --num_per_class 10

# metasmoothness.csv, on the processors.
python run_metasmoothness.py --task mnist3 --num_per_class 10 --variants inside1e-8,inside1e-8_rate3e-4 --removed 1,2,8 --num_directions 6 --num_seeds 5

# agreement_*_two_cores.csv: with segments for source, all on two processors, in a root folder of its own.
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 10 --early_epochs 3,6
python run_tda.py --model cnn --task mnist3 --num_per_class 10 --methods loo,unrolled,grad_dot,grad_cos,if,ekfac,trak,ats,repsim
python run_tda.py --model cnn --task mnist3 --num_per_class 10 --methods source --source.early_epochs 3,6
python run_agreement_analysis.py --model cnn --task mnist3 --num_per_class 10

# variance_*.csv, on the processors, in a root folder of its own.
python run_variance_components.py --model cnn --task mnist3 --num_per_class 10 --methods grad_dot,loo --num_starts 5 --num_orders 3

# seeds_needed.csv, .png and seed_test_errors.csv: of fifty seeds, on the processors, in a root folder of its own (TDA_ROOT), whose
# random_seeds.pt holds the ten and behind them torch.randint(2**31, (40,), generator=torch.Generator().manual_seed(0)).
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 10
python run_tda.py --model cnn --task mnist3 --num_per_class 10 --methods grad_dot,grad_cos,trak,if,loo
python run_seeds_needed.py --experiment cnn_mnist3_10pc

# summary_two_cores.csv: methods added later, the seeds trained anew, to the same networks, bit for bit, in a root folder of its own. Commit 9aca936.
python run_cnn_training.py --model cnn --task mnist3 --num_per_class 10
python run_tda.py --model cnn --task mnist3 --num_per_class 10 --methods grad_dot,grad_cos,trak,if,loo,unrolled
python run_compute_pvalues.py --experiment cnn_mnist3_10pc
cp results/cnn_mnist3_10pc/summary.csv results/reference/cnn_mnist3_10pc/summary_two_cores.csv

# score_metrics.csv, in the same root folder.
python run_score_metrics.py --experiment cnn_mnist3_10pc --metrics class,overlap,randomised --methods grad_cos,grad_dot,if,loo,trak,unrolled
