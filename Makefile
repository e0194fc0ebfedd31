# make demo: install and train; make test: install and test. Everything lands in .venv and runs/.

PYTHON ?= $(shell command -v python3.12 || command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: install demo test test-slow lint clean

install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' || \
		{ echo "crossq-wn needs Python 3.11 or 3.12, $(PYTHON) is another: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c requirements.lock -e '.[myosuite,dev]'
	touch $@

# Not the paper's setting: networks half as wide (512 and 256 units there) and a warm-up of 2000 decisions, not 5000,
# so that a walk is learned within minutes.
demo: install
	$(BIN)/crossq-wn train walker-walk --frames 40000 --warmup 2000 --eval-every 5000 \
		--critic-width 256 --actor-width 128

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
