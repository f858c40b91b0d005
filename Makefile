# make demo: digits in, a trained model and its pictures out.  make test: lint, types, the whole suite.
# make bench: the timings of docs/benchmarks.md that need no data.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test bench clean

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

demo: .venv/installed
	$(BIN)/glann data digits demo/digits
	$(BIN)/glann fit demo/digits --out demo/run --pipeline quick
	@echo "The pictures: demo/run/samples.png, demo/run/reconstructions.png; the whole story: demo/run/report.html"

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pydoclint --quiet imle glann
	$(BIN)/python -m pytest

bench: .venv/installed
	$(BIN)/python benchmarks/allocator.py
	$(BIN)/python benchmarks/upsampling.py
	$(BIN)/python benchmarks/glo_speed.py
	$(BIN)/python benchmarks/glo_overhead.py
	$(BIN)/python benchmarks/imle_speed.py

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
