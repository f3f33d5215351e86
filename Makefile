# make run    the whole job: environment, pretraining, three classifiers, evaluation
# make fast   the same in a third of the time: fewer epochs, one classifier   -> fast/
# make best   what the weights in models/ were made by: more epochs, four classifiers, TF-IDF beside them
# make test   the tests
# make check  what CI runs: linter, formatter, types, fast tests
# make studies   baselines, label efficiency, lambdas: what the report compares; some hours
# make report    report.pdf from results/
# make bench  how fast everything is here, and how much memory it takes   -> results/benchmark_PRECISION.json
# make reliability   the long tests: kills, damaged files, determinism   -> results/reliability.json; and all slow ones
# make mutation   small faults put into the code, one at a time: do tests fail?   -> results/mutation.json
# make audit  known vulnerabilities of what requirements.txt installs (asks the network)
#
# DATA=folder with train.csv and test.csv; without it AG_NEWS_DIR, else data/ag_news (downloaded), else the sample.
# Interrupted? The same command goes on where it stopped.

PYTHON ?= python3
PY := .venv/bin/python
# Side by side, on a thread each: the models of tests are too small to gain by more.
TESTS := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
RELIABILITY := $(addprefix tests/reliability/test_,kills.py foreign_files.py bad_data.py determinism.py long_use.py)
OPTIONS := $(if $(DATA),--data '$(DATA)')

# An environment that could not be completed is made again.
.DELETE_ON_ERROR:

.PHONY: run fast best studies report bench test check reliability mutation audit clean

run: .venv/ready
	$(PY) ELMO.py $(OPTIONS) --resume
	$(PY) classification.py $(OPTIONS) --resume
	$(PY) evaluate.py $(OPTIONS) --split all

fast: .venv/ready
	$(PY) ELMO.py $(OPTIONS) --preset fast --output fast --resume
	$(PY) classification.py $(OPTIONS) --preset fast --output fast --resume
	$(PY) evaluate.py $(OPTIONS) --output fast

best: .venv/ready
	$(PY) ELMO.py $(OPTIONS) --preset best --resume
	$(PY) classification.py $(OPTIONS) --preset best --resume
	$(PY) -m studies.baselines $(OPTIONS) --only tfidf_svm --resume
	$(PY) evaluate.py $(OPTIONS) --split all --duplicates

studies: .venv/ready-dev
	$(PY) -m studies.baselines $(OPTIONS) --resume
	$(PY) -m studies.lambda_study $(OPTIONS) --resume
	$(PY) -m studies.label_efficiency $(OPTIONS) --resume
	$(PY) evaluate.py $(OPTIONS) --split all --duplicates

report: .venv/ready-dev
	$(PY) -m studies.report

bench: .venv/ready
	$(PY) -m benchmarks $(OPTIONS)

test: .venv/ready-dev
	$(TESTS) -m "not slow"

check: .venv/ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(TESTS) -m "not slow and not gpu"

reliability: .venv/ready-dev
	$(PY) -m pytest $(RELIABILITY) --record results/reliability.json
	$(PY) -m pytest -m slow $(addprefix --ignore=,$(RELIABILITY))

mutation: .venv/ready-dev
	$(PY) tests/mutation.py

audit: .venv/ready-dev
	$(PY) -m pip_audit --skip-editable

.venv/bin/python:
	$(PYTHON) -m venv .venv

# With the versions that the results were made with; any others would be as good for a run.
.venv/ready: requirements.txt constraints.txt | .venv/bin/python
	$(PY) -m pip install --quiet -r requirements.txt -c constraints.txt
	touch $@

.venv/ready-dev: pyproject.toml .venv/ready
	$(PY) -m pip install --quiet -e ".[dev]" -c constraints.txt
	touch $@

# The environment and what unfinished runs left; models/ and results/ stay.
clean:
	rm -rf .venv runs .pytest_cache .ruff_cache .mypy_cache
