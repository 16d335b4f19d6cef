# Each target alone turns a fresh clone into a working environment (.venv) and does its job.
PYTHON ?= python3
VENV := .venv
WORKERS ?= 2
BIN := $(VENV)/bin

.PHONY: demo test test-all lint clean

demo: $(VENV)/installed
	$(BIN)/tfzoo demo --output tfzoo-demo --overwrite

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS)

test-all: $(VENV)/installed
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: requirements.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info tfzoo-demo
