# Two commands do everything on a machine with python3, venv and make: `make results` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TASK := digits3
NUM_PER_CLASS := 10
EXPERIMENT := cnn_$(TASK)_$(NUM_PER_CLASS)pc
SCORING := $(addprefix tda_cnn_scripts/run_cnn_,gd_and_gc.py if.py ats.py loo.py tracin.py gas.py repsim.py if_arnoldi.py ekfac.py trak.py)

.PHONY: results test test-long clean

# The whole CNN study; another data set by `make results TASK=mnist3 NUM_PER_CLASS=50`.
results: $(VENV)/installed
	$(RUN) run_subset_generation.py --task $(TASK) --num_per_class $(NUM_PER_CLASS)
	$(RUN) run_cnn_training.py --task $(TASK) --num_per_class $(NUM_PER_CLASS)
	set -e; for script in $(SCORING); do $(RUN) $$script --task $(TASK) --num_per_class $(NUM_PER_CLASS); done
	$(RUN) run_compute_pvalues.py --experiment $(EXPERIMENT)
	$(RUN) run_correlation_analysis.py --experiment $(EXPERIMENT)
	$(RUN) run_show_summary.py --experiment $(EXPERIMENT)

test: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m pytest -m "not long"

test-long: $(VENV)/installed
	$(RUN) -m pytest -m long -s

$(VENV)/installed: req.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r req.txt
	touch $@

clean:
	rm -rf models results/cnn_* results/cnn3_*
