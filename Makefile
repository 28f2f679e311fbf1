# make demo: recover the objects in a bundled picture.   make test: everything CI runs.   Both start from nothing.
PYTHON ?= python3
OUT ?= out/demo
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# 1: tests that need OpenGL fail where it is missing; 0: they are skipped
REQUIRE_GL ?= $(if $(filter Linux,$(shell uname -s)),1,0)
# 1: tests that drive a browser fail where there is none; 0: they are skipped
REQUIRE_BROWSER ?= 0
# processes that run tests side by side
JOBS ?= 2

.PHONY: demo test clean

demo: $(STAMP)
	@PYTHON=$(BIN)/python .ci/opengl.sh || echo "Going on with the engine \`software\`."
	$(BIN)/unrender recover inverse/demo/tabletop.png --world tabletop --out $(OUT)

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@PYTHON=$(BIN)/python .ci/opengl.sh || [ $(REQUIRE_GL) = 0 ]
	@.ci/chromium.sh || [ $(REQUIRE_BROWSER) = 0 ]
	REQUIRE_GL=$(REQUIRE_GL) REQUIRE_BROWSER=$(REQUIRE_BROWSER) OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
