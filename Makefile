# make demo: install and train; make test: install and test. Everything lands in .venv and runs/.

BIN := .venv/bin
SHELL := bash
# Where it is set, every start compiles the Python of JAX anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install extras current demo demo-walker test test-learning test-slow test-current check lint docs locks clean

# A .venv of another Python or set of simulators than the one asked for is made anew.
install: .venv/installed
	@PYTHON='$(PYTHON)' SIMULATORS='$(SIMULATORS)' tools/install.sh --if-other

.venv/installed: pyproject.toml requirements.lock requirements-current.lock
	@PYTHON='$(PYTHON)' SIMULATORS='$(SIMULATORS)' tools/install.sh

# What the tests of optional parts need besides. CI needs it; elsewhere they are skipped without it.
EXTRAS = --quiet --no-deps -r requirements-extras.lock
extras: .venv/extras

.venv/extras: .venv/installed requirements-extras.lock
	@{ { $(BIN)/uv pip install --python $(BIN)/python $(EXTRAS) || \
		$(BIN)/python -m pip install --disable-pip-version-check $(EXTRAS); } && touch $@; } || \
		{ echo "the packages of requirements-extras.lock cannot be installed: tests that need them are skipped"; \
		[[ -z $$CI ]]; }

# The current set of simulators, beside whatever is in .venv.
current: .venv-current/installed

.venv-current/installed: .venv/installed requirements-current.lock
	$(BIN)/uv venv --quiet --clear .venv-current
	$(BIN)/uv pip install --quiet --python .venv-current/bin/python --no-deps -r requirements-current.lock -e .
	touch $@

# Neither is the paper's setting (networks of 512 and 256 units, a warm-up of 5000 decisions, minibatches of 256,
# another initial temperature), so that something is learned while one watches.
demo: install
	$(BIN)/crossq-wn train Reacher-v5 --frames 4000 --warmup 500 --eval-every 500 --log-every 250 --batch-size 128 \
		--critic-width 128 --actor-width 64 --initial-temperature 0.01

demo-walker: install
	$(BIN)/crossq-wn train walker-walk --frames 25000 --warmup 2000 --eval-every 5000 \
		--critic-width 256 --actor-width 128 --initial-temperature 0.01

test: install extras
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Each algorithm in a whole training, but those that `make test` trains: two minutes.
test-learning: install extras
	$(BIN)/python -m pytest -m learning -n 2

test-slow: install extras
	$(BIN)/python -m pytest -m slow

# What may depend on the set of simulators: less than a minute.
test-current: current
	.venv-current/bin/python -m pytest tests/test_environments.py tests/test_golden.py tests/test_suites.py \
		tests/test_project.py tests/test_cli.py::test_no_arguments_and_version

# Before a commit: what takes a minute or two.
check: lint
	$(BIN)/python -m pytest tests/test_layout.py tests/test_startup.py tests/test_golden.py tests/test_theorems.py \
		tests/test_table1.py tests/test_project.py

lint: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# The site, in site/: it is complete without a network, and a dead link ends the build.
docs: install
	$(BIN)/python tools/docs.py

# Names and versions alone: nothing of where they came from. The last file has what the current set lacks, of the
# same versions otherwise, so that it goes with either set.
LOCK = $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --no-header --no-annotate \
	--no-emit-index-url --extra dev --extra docs
locks: install
	for set in "published --extra myosuite:requirements.lock" "current:requirements-current.lock" \
		"current --extra tested --constraint requirements-current.lock:requirements-extras.lock"; do \
		file=$${set##*:}; head -3 $$file > .head; \
		$(LOCK) --extra $${set%:*} --output-file $$file && cat .head $$file > .lock && mv .lock $$file; rm .head; done
	grep -vxFf <(grep == requirements-current.lock) requirements-extras.lock > .lock && mv .lock requirements-extras.lock

clean:
	rm -rf .venv .venv-current .mypy_cache .pytest_cache .ruff_cache .hypothesis
