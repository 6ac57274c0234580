# Two commands do everything on a machine with python3, venv and make: `make results` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TASK := digits3
NUM_PER_CLASS := 10
METHODS := gd_and_gc if ats loo tracin gas repsim if_arnoldi ekfac trak

.PHONY: results results-vit test test-long clean

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
	rm -rf models results/cnn_* results/cnn3_* results/vit_*
