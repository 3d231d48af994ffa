# One line each: scripts/dev.py does the work, so that Windows has the same commands.
PYTHON ?= python3
.PHONY: generate draw test lint bench

generate draw test lint bench:
	@$(PYTHON) scripts/dev.py $@ $(ARGS)
