# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: help demo test data-test check notebooks notebooks-write train-toy clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: .venv/ready  ## set up, then open the page on the shipped model
	$(BIN)/python app.py

.venv/browser: .venv/ready
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { test "$$(id -u)" = 0 && apt-get -qq update && \
		apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1 || \
		echo "No Chromium here: the tests of the page in a browser will be skipped."
	@touch $@

test: .venv/ready .venv/browser  ## set up, then run the tests (no network, no GPU, no data needed)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

data-test: .venv/ready  ## the tests on real data: make data-test MSSC_DATA=/path/to/data
	$(BIN)/python -m pytest -m data

check: .venv/ready  ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright --pythonpath $(BIN)/python

notebooks: .venv/ready  ## run every notebook, headless, about a quarter of an hour; MSSC_DATA=/path/to/J-HMDB takes real videos
	$(BIN)/python -m pytest --nbmake notebooks --nbmake-timeout 600

notebooks-write: .venv/ready  ## run every notebook and keep what it shows, as they are committed
	MSSC_WIDGETS=static $(BIN)/python -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=600 \
		--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False notebooks/*.ipynb

train-toy: .venv/ready  ## generate the toy set and train a small model on it
	$(BIN)/mssc train --dataset toy --data data/toy -o runs/toy --mixup 0 --learning-rate 2e-3 \
		--model.key-size 128 --model.clip-size 64

clean:  ## remove the environment and what was made
	rm -rf .venv runs outputs data/toy
