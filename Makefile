# make run    the whole job: environment, pretraining, three classifiers, evaluation
# make test   the tests
# make check  what CI runs: linter, formatter, types, fast tests
#
# DATA=folder with train.csv and test.csv; without it AG_NEWS_DIR, else data/ag_news (downloaded), else the sample.
# Interrupted? The same command goes on where it stopped.

PYTHON ?= python3
PY := .venv/bin/python
OPTIONS := $(if $(DATA),--data '$(DATA)')

.PHONY: run test check clean

run: .venv/ready
	$(PY) ELMO.py $(OPTIONS) --resume
	$(PY) classification.py $(OPTIONS) --resume
	$(PY) evaluate.py $(OPTIONS) --split all

test: .venv/ready-dev
	$(PY) -m pytest

check: .venv/ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -m "not slow and not gpu"

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/ready: requirements.txt | .venv/bin/python
	$(PY) -m pip install --quiet -r requirements.txt
	touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	$(PY) -m pip install --quiet -r requirements-dev.txt
	touch $@

# The environment and what unfinished runs left; models/ and results/ stay.
clean:
	rm -rf .venv runs .pytest_cache .ruff_cache .mypy_cache
