# Everything a fresh machine needs: `make report`, `make test`. GNU make 3.81 or newer, any sh.
PYTHON ?= python3

VENV := .venv
PY := $(VENV)/bin/python
BENCH := .venv-bench
INDEX := reports/quick/index.html

# Two checksums of file contents decide whether there is anything to do: times mislead after a checkout, and a
# deleted file has none.
REPORT_SOURCES := bsglib notebooks params pyproject.toml requirements.lock
TEST_SOURCES := $(REPORT_SOURCES) tests benchmarks reports/results reports/index.html reports/conclusions.md \
	reports/laptop .ci/lock.py .ci/run Makefile README.md CHANGELOG.md CITATION.cff LICENSE environment.yml jupytext.toml docs

PYTEST := $(PY) -m pytest -p no:cacheprovider

# Variables that make this processor compute like an older one; none where there is none of its kind.
OLDER := 'import torch; print({ \
    "AVX512": "ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2", \
    "AVX2": "ATEN_CPU_CAPABILITY=default DNNL_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2", \
  }.get(torch.backends.cpu.get_cpu_capability(), ""))'

# Kernels that make notebooks, or compare them, read no configuration of the user, which could change what cells print.
OWN := $(abspath $(VENV))/jupyter
notebooks $(VENV)/tested: export IPYTHONDIR = $(OWN)
notebooks $(VENV)/tested: export JUPYTER_CONFIG_DIR = $(OWN)
notebooks $(VENV)/tested: export JUPYTER_DATA_DIR = $(OWN)
notebooks $(VENV)/tested: export JUPYTER_PATH =
notebooks $(VENV)/tested: export PYTHONSTARTUP =

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help report test check notebooks lab bench soak lint lock clean FORCE announce-report announce-test

help: ## this list (at once)
	@echo "usage: make TARGET [PYTHON=python3.12]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1	\2/p' Makefile

report: announce-report $(VENV)/reported ## run every study on embedded data, write reports/quick/index.html (about 10 minutes the first time, of which 3 install 6 GB; seconds where nothing changed)
	@$(if $(REPORTED),,echo "nothing changed since the last run that passed")
	@echo "$(INDEX)"

test: announce-test $(VENV)/tested ## lint, unit tests, and every notebook executed again and compared (about 25 minutes; 3 more the first time; seconds where nothing changed)
	@$(if $(TESTED),,echo "nothing changed since the last run that passed")

check: lint ## lint, and the unit tests that are not slow, for everyday work (2 minutes)
	$(PYTEST) -n 2 --dist loadfile -m "not slow" tests

notebooks: $(VENV)/installed ## write notebooks/*.ipynb from their .py, run with the quick profile (a minute or two each)
	@for py in notebooks/*.py; do \
	  $(PY) -m jupytext --quiet --to ipynb --output "$${py%.py}.ipynb" "$$py" && \
	  $(PY) -m jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
	    "$${py%.py}.ipynb" || exit 1; \
	done

lab: $(VENV)/installed ## JupyterLab on this machine, at notebooks/ (seconds)
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks

BENCHMARKS := arithmetic throughput sam_step surface keskar sweep report growth estimates

bench: $(VENV)/installed $(BENCH)/installed ## measure against other people's packages on an idle machine, write docs/performance.md; QUICK=1 for a smoke run of 10 minutes (about 70 minutes)
	@for each in $(BENCHMARKS); do $(PY) -m benchmarks.$$each $(if $(QUICK),--quick) || exit 1; done
	@$(if $(QUICK),,$(PY) -m benchmarks.page)

soak: $(VENV)/installed ## kill what trains, measures and sweeps 200 times at random moments, compare what goes on with what was left alone (about 10 minutes)
	$(PY) -m benchmarks.soak --kills 200

lint: $(VENV)/installed ## ruff: rules and format; mypy: types of the modules that users import on their own (seconds; half a minute the first time)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

lock: ## resolve pyproject.toml anew and write requirements.lock; Python 3.11, online (a minute)
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet packaging
	$(PY) .ci/lock.py

clean: ## remove .venv, .venv-bench, reports/quick and caches, keep the run store (seconds)
	rm -rf $(VENV) $(BENCH) reports/quick build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find bsglib notebooks tests benchmarks .ci -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

announce-report announce-test:
	@sed -n 's/^$(@:announce-%=%):.*## /make $(@:announce-%=%): /p' Makefile

$(VENV)/reported: $(VENV)/report-sources $(if $(wildcard $(INDEX)),,FORCE)
	$(eval REPORTED := yes)
	$(VENV)/bin/bsg report --profile quick
	@test -s $(INDEX) || { echo "make: bsg report wrote no $(INDEX)" >&2; exit 1; }
	@touch $@

# Test files are shared out over two processes; a notebook takes all cores by itself. Notebooks meet an empty run
# store: what they print is computed, not remembered. Then they meet another, with the instructions of an older
# processor: what they print does not depend on the machine.
$(VENV)/tested: $(VENV)/test-sources
	$(eval TESTED := yes)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PYTEST) -n 2 --dist loadfile tests
	@trap 'rm -rf "$$store"' EXIT; trap 'exit 130' HUP INT TERM; \
	older=$$($(PY) -c $(OLDER)) || exit 1; \
	set -- --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks; \
	for processor in "" $${older:+"$$older"}; do \
	  store=$$(mktemp -d) || exit 1; \
	  echo "$${processor:+$$processor }BSG_STORE=$$store $(PYTEST) $$*"; \
	  env $$processor BSG_STORE="$$store" $(PYTEST) "$$@" || exit 1; \
	  rm -rf "$$store"; \
	done
	@touch $@

# Rewritten only where the contents differ, so that what depends on it is made again only then.
$(VENV)/report-sources $(VENV)/test-sources: FORCE | $(VENV)/installed
	@find $(if $(findstring test-,$@),$(TEST_SOURCES),$(REPORT_SOURCES)) -type f ! -name '*.pyc' ! -name '.*' \
	  ! -path '*/.ipynb_checkpoints/*' -exec cksum {} + 2>/dev/null | LC_ALL=C sort > $@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# Holds the folder's path: an environment that was moved or copied is made again. `installing` outlives an
# installation that was killed, after which pip can take half a package for a whole one.
MOVED := $(if $(wildcard $(VENV)/installed),$(if $(subst $(CURDIR),,$(shell cat $(VENV)/installed)),FORCE))
$(VENV)/installed: requirements.lock pyproject.toml $(MOVED)
	@found=$$($(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])') || { \
	  echo "make: '$(PYTHON)' does not run; name a Python 3.11 or newer, as in: make report PYTHON=python3.12" >&2; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Python 3.11 or newer is needed, '$(PYTHON)' is $$found; name another, as in: make report PYTHON=python3.12" >&2; exit 1; }
	@if test -e $(VENV)/installing || test -n "$(MOVED)" || ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  echo "creating $(VENV)/"; \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	    echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@echo "installing requirements.lock into $(VENV)/: about 6 GB, 3 minutes the first time (log: $(VENV)/install.log)"
	@touch $(VENV)/installing; \
	{ PYTHONUNBUFFERED=1 $(PY) -m pip install --disable-pip-version-check --progress-bar off -r requirements.lock 2>&1; \
	  echo $$? > $(VENV)/installing; } | tee $(VENV)/install.log | awk ' \
	  /^(Collecting|Processing) / { if (++n % 25 == 0) print "  " n " packages found" } \
	  match($$0, /[0-9][0-9][0-9]+\.[0-9] MB/) { print "  " $$(NF - 2) ", " substr($$0, RSTART, RLENGTH) } \
	  /^Installing collected/ { print "  unpacking " gsub(/,/, "") + 1 " packages, a minute or two" } \
	  { fflush() }'; \
	status=$$(cat $(VENV)/installing); \
	rm $(VENV)/installing; \
	test "$$status" = 0 || { tail -n 20 $(VENV)/install.log >&2; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . >> $(VENV)/install.log 2>&1 \
	  || { tail -n 20 $(VENV)/install.log >&2; exit 1; }
	@$(PY) -c 'import torch, torchvision' \
	  || { echo "make: torch and torchvision do not fit together; both have to come from one package index" >&2; exit 1; }
	@echo "$(CURDIR)" > $@

# The peers' environment sees the project's torch and torchvision after its own packages, through a .pth file, and
# not the other way round.
SITE := -c 'import site; print(site.getsitepackages()[0])'
$(BENCH)/installed: benchmarks/peers/requirements.txt $(VENV)/installed
	@echo "installing the peers into $(BENCH)/: about 2 GB, a minute"
	@$(PY) -m venv --clear $(BENCH)
	@$(PY) $(SITE) > "$$($(BENCH)/bin/python $(SITE))/project.pth"
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt
	@touch $@
