# make demo: install and train; make test: install and test. Everything lands in .venv and runs/.

# The first Python that runs and suits; on Debian, venv is a package of its own.
SUITS = import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c '$(SUITS)' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin

.PHONY: install demo test test-slow lint clean

install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c '$(SUITS)' 2>/dev/null || { echo "crossq-wn needs Python 3.11 or 3.12 with venv" \
		"(apt-get install python3-venv), found '$(PYTHON)': make PYTHON=/path/to/python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c requirements.lock -e '.[myosuite,dev]'
	touch $@

# Not the paper's setting: networks half as wide (512 and 256 units there) and a warm-up of 2000 decisions, not 5000,
# so that a walk is learned within minutes.
demo: install
	$(BIN)/crossq-wn train walker-walk --frames 25000 --warmup 2000 --eval-every 5000 \
		--critic-width 256 --actor-width 128 --initial-temperature 0.01

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
