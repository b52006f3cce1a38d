# SPDX-License-Identifier: Apache-2.0
# Everything runs in .venv, which `setup` makes: environment/set_up.py.

PYTHON ?= python3
BIN := .venv/bin

# Nothing leaves the machine unless asked to.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: setup demo test lint format

setup:
	@$(PYTHON) environment/set_up.py

demo: setup output/demo/bag
	@$(BIN)/mmperception replay output/demo/bag --out output/demo/result --force

# Made beside its place and moved when whole, so that a half-written bag never counts.
output/demo/bag: | setup
	@rm -rf output/demo/partial
	@mkdir -p output/demo/partial
	@touch output/COLCON_IGNORE
	@$(BIN)/mmperception simulate output/demo/partial/bag --seconds 10 --seed 1
	@mv output/demo/partial/bag $@

test: lint
	@$(BIN)/python -m pytest

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: setup
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format
