# `make help` lists the targets. Nothing is assumed but Python >= 3.11 with venv, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
# In an environment of its own: its last release in Python requires older packages than ours.
COMPOSE := $(VENV)/compose/bin/docker-compose

# Compiled modules are kept: otherwise each command would compile all that it imports, twice as long as it runs.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-gpu test-integrations test-jax unit soak chaos compose results bench lint format docs lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# The locked versions, through uv, which the environment brings itself.
$(VENV)/.installed: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.5'
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --locked --inexact
# uv compiles no modules, and the first launch would spend most of its time on those of the framework.
	-@cd $(VENV)/lib/python3*/site-packages && ../../../bin/python -m compileall -q -j 0 keras tensorflow/_api tensorflow/python >/dev/null
	@touch $@

install: $(VENV)/.installed ## Make .venv with the locked dependencies

# In a home of its own, so that it neither finds nor leaves anything in the user's.
demo: export HPO_HOME := $(CURDIR)/.demo
demo: export HPO_RESULTS_DIR := $(CURDIR)/results
demo: export HPO_STORAGE :=
demo: install ## Search, retrain and report on bundled data, under 5 minutes on 2 cores
	$(BIN)/hpo launch --study $(DEMO) --objective digits-cnn --workers 2 --trials 12
	$(BIN)/hpo retrain --study $(DEMO) --seeds 3 --workers 2
	$(BIN)/hpo export --study $(DEMO) --format python --output results/$(DEMO)/train_best.py
	$(BIN)/hpo report --study $(DEMO)
	@echo
	@echo "Open results/$(DEMO)/report.html in a browser, or read report.md next to it."
	@echo "Results: results/$(DEMO)/ (metrics.json, confusion_matrix.csv, history.csv, best_config.yaml, model.keras)"
	@echo "Next, with the demo's database:  export HPO_HOME=$(HPO_HOME)"
	@echo "Train the best configuration by itself: $(BIN)/python results/$(DEMO)/train_best.py"
	@echo "Look at the study:   $(BIN)/hpo status --study $(DEMO)      $(BIN)/hpo trials --study $(DEMO)"
	@echo "Continue the search: $(BIN)/hpo launch --study $(DEMO) --trials 24"
	@echo "On MNIST:            $(BIN)/hpo launch --study mnist-cnn --workers 2 --trials 12"

# Several parts at the same time: see tests/suite.py. WORKERS=N: tests of the service at a time, 8 by default.
test: install ## The linters and the whole suite, real PostgreSQL and Ray included
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --locked --inexact --group cluster
	@command -v docker-compose >/dev/null || test -x $(COMPOSE) || { $(BIN)/uv venv --quiet --python $(BIN)/python $(VENV)/compose && \
		echo 'pyyaml>=6' | $(BIN)/uv pip install --quiet --python $(VENV)/compose/bin/python --override - \
		'docker-compose==1.29.2' 'setuptools<81'; } >/dev/null 2>&1 || true
	@command -v chromium google-chrome chrome >/dev/null || \
		timeout 120 $(BIN)/playwright install --only-shell chromium >/dev/null 2>&1 || true
	$(BIN)/python -m tests.suite

unit: install ## Only the fast tests
	$(BIN)/pytest tests/unit

# The packages take 160 MB that no other target needs.
test-integrations: install ## TensorBoard, MLflow, W&B in offline mode, and ONNX Runtime themselves
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --locked --inexact --extra mlflow --extra onnx --extra tensorboard --extra tflite --extra wandb
	$(BIN)/pytest tests/integrations tests/unit/models/test_export.py

test-gpu: install ## The tests that need JAX and a GPU (without one, those that JAX alone can run)
	$(BIN)/pytest -m gpu tests/gpu

# JAX takes 100 MB that no other target needs; tests of the backend run again on it, in two workers that share what is compiled.
test-jax: install ## Training on JAX: a killed and resumed study, and the tests of the training loop
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --locked --inexact --extra jax
	KERAS_BACKEND=jax $(BIN)/pytest --numprocesses 2 --dist worksteal \
		tests/jax tests/acceptance/processes/test_reuse.py tests/acceptance/processes/test_lanes_of_keras.py tests/acceptance/faults/test_lanes.py \
		tests/unit/trainer/lanes/test_programs.py tests/unit/objectives/backend tests/unit/objectives/lanes tests/unit/objectives/recipes \
		tests/unit/objectives/training tests/unit/objectives/test_shipped.py --ignore tests/unit/objectives/backend/test_tensorflow_backend.py

soak: install ## Before a release: an outage of a minute, and 200 trials under faults: make soak SECONDS=600 SEED=1
	$(BIN)/pytest -m soak tests/acceptance
	$(BIN)/python -m tests.acceptance.faults.chaos --trials $(or $(TRIALS),200) --seconds $(or $(SECONDS),0) $(if $(SEED),--seed $(SEED))

chaos: soak

compose: install ## A study in real containers, which needs Docker: see tests/compose/README.md, make compose OPTIONS=…
	$(BIN)/python -m tests.compose.run $(OPTIONS)

# Goes on where it was interrupted; one part of it: make results PARTS=mnist-cnn
results: install ## Search, final runs and ablations of MNIST and CIFAR-10, which take hours: docs/results/run.sh
	HPO=$(CURDIR)/$(BIN)/hpo docs/results/run.sh $(PARTS)

# Takes hours, and the machine for itself; one part of it: make bench ONLY=overhead
bench: install ## Compare with plain Optuna, KerasTuner and Ray Tune: make bench [ROUNDS=3] (QUICK=1: a smoke run)
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --locked --inexact --extra bench
	$(BIN)/python -m bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

lint: install ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install ## Write docs/reference/commands.md from the help texts
	$(BIN)/python -m hpo.cli.docs

lock: install ## Resolve the dependencies again, into uv.lock
	$(BIN)/uv lock --upgrade

clean: ## Remove the environment and caches; studies and results stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
