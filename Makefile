# Two commands do everything on a machine with python3, venv and make: `make results` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TASK := digits3
NUM_PER_CLASS := 10
METHODS := gd_and_gc if ats loo tracin gas repsim if_arnoldi ekfac trak

.PHONY: results results-vit yardsticks yardsticks-lr yardsticks-mlp test test-long clean

# The whole CNN study; another data set by `make results TASK=mnist3 NUM_PER_CLASS=50`.
results: MODEL := cnn
results: TRAINING := run_cnn_training.py
# The same study of fine-tuned vision transformers; without leave-one-out by `make results-vit METHODS="gd_and_gc if ats"`.
results-vit: MODEL := vit
results-vit: TRAINING := run_vit_finetuning.py

results results-vit: CHOSEN = --task $(TASK) --num_per_class $(NUM_PER_CLASS)
results results-vit: EXPERIMENT = $(MODEL)_$(TASK)_$(NUM_PER_CLASS)pc
results results-vit: $(VENV)/installed
	$(RUN) run_subset_generation.py $(CHOSEN)
	$(RUN) $(TRAINING) $(CHOSEN)
	set -e; for method in $(METHODS); do $(RUN) tda_$(MODEL)_scripts/run_$(MODEL)_$$method.py $(CHOSEN); done
	$(RUN) run_compute_pvalues.py --experiment $(EXPERIMENT)
	$(RUN) run_correlation_analysis.py --experiment $(EXPERIMENT)
	$(RUN) run_show_summary.py --experiment $(EXPERIMENT)

# Which attribution predicts retraining? The field's two MNIST settings from nothing, each step in two processes of one thread.
yardsticks: yardsticks-lr yardsticks-mlp

yardsticks-lr: ALONG := kernel_trajectory,if_trajectory
yardsticks-lr: INFLUENCE := --damping 0.012
yardsticks-mlp: ALONG := kernel_trajectory
yardsticks-mlp: INFLUENCE := --damping 0.02 --matrix heaviest_rows
yardsticks-lr yardsticks-mlp: export OMP_NUM_THREADS = 1
yardsticks-lr yardsticks-mlp: yardsticks-%: $(VENV)/installed
	$(RUN) run_mlp_training.py --model $*
	$(call halves,--model $* --num_seeds 6,50,100)
	$(call halves,--model $* --purpose fitting --num_seeds 1,100,200)
	set -e; chosen="--model $* --task mnist --num_per_class 500"; scripts=tda_cnn_scripts/run_cnn; \
	$(RUN) $${scripts}_trajectory.py $$chosen --methods $(ALONG) & first=$$!; \
	for method in gd_and_gc repsim ekfac trak; do $(RUN) $${scripts}_$$method.py $$chosen; done; \
	$(RUN) $${scripts}_if.py $$chosen --no-published $(INFLUENCE); \
	$(RUN) $${scripts}_datamodels.py $$chosen --num_subsets 20; wait $$first
	$(RUN) run_lds_evaluation.py --experiment $*_mnist_500pc

# Retrainings of $(1): the subsets up to $(2) in one process, those from there to $(3) in another.
define halves
	$(RUN) run_subset_retraining.py $(1) --num_subsets $(2) & first=$$!; \
	$(RUN) run_subset_retraining.py $(1) --first_subset $(2) --num_subsets $(3) && wait $$first
endef

test: $(VENV)/installed
	$(RUN) -m ruff check .
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not long" -n 2 --dist loadfile

test-long: $(VENV)/installed
	$(RUN) -m pytest -m long -s

$(VENV)/installed: req.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r req.txt
	touch $@

clean:
	rm -rf models results/cnn_* results/cnn3_* results/vit_* results/lr_* results/mlp_* results/resnet9_*
