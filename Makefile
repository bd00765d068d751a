# Everything the book needs lives in .venv, node_modules and _build beside this file.
PYTHON ?= python3
# Optional: the address of a package index with CPU-only torch wheels (see README.md).
TORCH_INDEX ?=
# Optional: the port of `make serve` (8000) or `make lab` (8888).
PORT ?=
# Optional: more arguments for pytest, for example ARGS="-k planning -x".
ARGS ?=
# For `make accept`: the label of an equation, several in quotes, or all.
LABEL ?=
# For `make robust`: how many seeds, and the first of them.
SEEDS ?=
FIRST ?=
# For `make section`: part/name of the new section, and its title.
NAME ?=
TITLE ?=
export TORCH_INDEX PORT ARGS LABEL SEEDS FIRST NAME TITLE

.DEFAULT_GOAL := help
TARGETS := book pdf check test robust mutate accept section teaching lab serve bench bench-book lock clean distclean
.PHONY: help $(TARGETS)

help:
	@echo "make book        install what is needed, then execute and build the book into _build/html"
	@echo "make pdf         build the book, print it into one PDF, and link its pages to that"
	@echo "make check       lint, types and unit tests, without a build (ARGS=… goes to pytest)"
	@echo "make test        build, then run every check (ARGS=… goes to pytest)"
	@echo "make robust      every section with other seeds and other instructions (SEEDS=20, ARGS=<sections>)"
	@echo "make mutate      how many small mistakes planted in the helpers are noticed (ARGS=<how many>)"
	@echo "make accept      accept a changed equation, or its changed check (LABEL=eq-…, LABEL=all), or list new addresses (LABEL=addresses)"
	@echo "make section     begin a section from the template (NAME=part/name TITLE=\"…\")"
	@echo "make teaching    student notebooks without solutions, and every figure as SVG, into _build/teaching"
	@echo "make lab         JupyterLab with live sliders; a double click opens a section as a notebook"
	@echo "make serve       a local server that rebuilds when a source changes (PORT=8000)"
	@echo "make bench       compare losses and training with other implementations"
	@echo "make bench-book  measure the build and the pages"
	@echo "make lock        resolve requirements-dev.txt anew and write constraints.txt"
	@echo "make clean       remove what was built; make distclean also what was installed"
	@echo
	@echo "Variables: PYTHON=python3.12  TORCH_INDEX=<address of CPU-only torch wheels>  PORT=8001  LABEL=eq-gae  BOOK_SOLUTIONS=none"

$(TARGETS):
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "$(PYTHON) was not found. The book needs Python 3.11 or newer: make $@ PYTHON=<its path>" >&2; \
	  exit 1; }
	@"$(PYTHON)" tools/run.py $@
