# The two commands of the README, `make chat` and `make test`, and their parts.
# Stamps in .venv make a second run skip what has not changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PHOTO := examples/chelsea.png
QUESTION := What is in this picture?
# About half of the tests, by the time they take: screens and models. The rest has the commands and training.
HALF := tests/tui/app tests/tui/images tests/tui/pty tests/tui/review tests/tui/watch \
	tests/core/engine tests/core/language

.DEFAULT_GOAL := help
.PHONY: help chat test test-half test-rest lint types clean

help:
	@echo "make chat    install minigpt4 into $(VENV), fetch its small model, talk about $(PHOTO)"
	@echo "make test    the same with development tools, then lint, types and tests"
	@echo "make clean   remove $(VENV) and the tools' caches"

chat: $(VENV)/installed
	@$(BIN)/minigpt4 models pull mini >/dev/null
	@if [ -t 0 ] && [ -t 1 ]; then \
		$(BIN)/minigpt4 chat $(PHOTO); \
	else \
		echo "> $(QUESTION)" && $(BIN)/minigpt4 ask -i $(PHOTO) "$(QUESTION)"; \
	fi

test: lint types
	@$(MAKE) --no-print-directory --jobs 2 test-half test-rest

# Two halves at once. Threads that spin while they wait would take the other half's core.
test-half test-rest: export OMP_WAIT_POLICY = PASSIVE

test-half: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(HALF)

test-rest: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(HALF:%=--ignore=%)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
		"minigpt4 needs Python 3.11 or newer and this is {}.{}: run make PYTHON=/path/to/python3.11 (or newer)." \
		.format(*sys.version_info))'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	@echo "Installing minigpt4 into $(VENV); torch is large, so the first time takes minutes ..."
	@$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/created pyproject.toml constraints.txt
	@echo "Installing minigpt4 with development tools into $(VENV); llama.cpp is compiled, which takes minutes ..."
	@$(PIP) install --quiet -c constraints.txt -e '.[dev,eval,llama,quantised]'
	@touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist src/minigpt4.egg-info
