# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
# The tested build. Any torch that pyproject.toml admits works: TORCH="torch" takes the registry's newest.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
# pip and uv say nothing but errors: each step prints its own line.
PIP := $(BIN)/pip install -qq
# --no-deps: a lock names every package, so there is nothing to resolve.
# The build backend is in the lock, too.
EDITABLE := $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
SYNC := $(BIN)/uv pip install --quiet --no-deps --require-hashes --python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# uv compiles no package: whoever imports it first does, and keeps that for the many processes of the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs test test-busy test-newest test-lowest smoke-newest smoke-lowest lock lock-check studio sandbox lint format audit clean

demo: $(VENV)/.demo
	$(BIN)/namepin extract --posts examples/posts.jsonl --profile starter --out out/demo

SUITE := -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
PYTEST := $(BIN)/python $(SUITE)

test: $(VENV)/.test $(VENV)/.studio
	$(PYTEST)

# The same beside four busy loops, which end with it: no test may depend on how quick the machine is.
test-busy: $(VENV)/.test $(VENV)/.studio
	$(BIN)/python .ci/busy.py $(PYTEST)

# The suite with the newest packages that pyproject.toml admits, without the lock.
test-newest: $(VENV)-newest/.made
	$(VENV)-newest/bin/python $(SUITE)

# The fast tests with the oldest ones. Other packages' deprecations of their own days are shown, not fatal.
test-lowest: $(VENV)-lowest/.made
	$(VENV)-lowest/bin/python $(SUITE) -m "not slow"

# Every module imported and one post read, in either; prints what breaks.
smoke-newest smoke-lowest: smoke-%: $(VENV)-%/.made
	$(VENV)-$*/bin/python -W ignore .ci/smoke.py

# The newest version of every package; KEEP=1 renews only what pyproject.toml no longer admits.
lock: $(VENV)/.test
	$(BIN)/python .ci/lock.py $(if $(KEEP),--keep)

# Is the lock the one of pyproject.toml? Needs no network.
lock-check: $(VENV)/.test
	$(BIN)/python .ci/lock.py --check

# The graphs on LangGraph's development server, with its usage reporting off.
studio: $(VENV)/.studio
	LANGGRAPH_CLI_NO_ANALYTICS=1 $(VENV)/studio/bin/langgraph dev --no-browser

# The made-up world and every net that is trained on it, from nothing (docs/sandbox.md); goes on where it was stopped.
sandbox: $(VENV)/.test
	$(BIN)/python -m namepin.finetune.sandbox.train out/sandbox --seed 1

lint: $(VENV)/.test lock-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/prose.py

# The documentation as a site in out/docs; a broken link is an error.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Known vulnerabilities of what is installed; says so where no vulnerability service can be reached.
audit: $(VENV)/.test
	$(BIN)/python .ci/audit.py

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-lowest out build *.egg-info

$(VENV)/.base: Makefile requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14) and "The lock is for Python 3.11 to 3.14: make PYTHON=python3.11 ...")'
	@echo "set-up: an environment in $(VENV), with uv"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.demo: $(VENV)/.base requirements/demo.txt pyproject.toml
	@echo "set-up: the packages of requirements/demo.txt"
	@$(SYNC) $(BIN)/python -r requirements/demo.txt
	@echo "set-up: PyTorch ($(TORCH))"
	@$(PIP) --no-compile "$(TORCH)"
	@$(EDITABLE)
	@touch $@

$(VENV)/.test: $(VENV)/.demo requirements/test.txt
	@echo "set-up: the packages of requirements/test.txt"
	@$(SYNC) $(BIN)/python -r requirements/test.txt
	@touch $@

# An environment on top of the other one, which it sees: some packages of this server refuse versions that tests want.
$(VENV)/.studio: $(VENV)/.demo requirements/studio.txt
	@echo "set-up: the packages of requirements/studio.txt, in $(VENV)/studio"
	@$(BIN)/uv venv --quiet --clear $(VENV)/studio
	@$(SYNC) $(VENV)/studio/bin/python -r requirements/studio.txt
	@$(BIN)/python -c 'import site, pathlib; here = site.getsitepackages()[0]; \
		pathlib.Path(here.replace("$(VENV)", "$(VENV)/studio"), "namepin.pth").write_text("import site; site.addsitedir(%r)\n" % here)'
	@touch $@

# Made anew each time that it is asked for: "newest" is another set tomorrow.
.PHONY: $(VENV)-newest/.made $(VENV)-lowest/.made
$(VENV)-newest/.made $(VENV)-lowest/.made: $(VENV)-%/.made: $(VENV)/.test
	@echo "set-up: the $* packages of pyproject.toml, in $(VENV)-$*"
	@$(BIN)/uv venv --quiet --clear $(VENV)-$*
	@$(BIN)/pip --python $(VENV)-$*/bin/python install -qq --no-compile "$(TORCH)"
	@$(BIN)/python .ci/lock.py --$* > $(VENV)-$*/requirements.txt
	@$(BIN)/uv pip install --quiet --no-deps --python $(VENV)-$*/bin/python -r $(VENV)-$*/requirements.txt
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(VENV)-$*/bin/python -e .
