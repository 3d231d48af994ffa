# One line each: scripts/dev.py does the work, so that Windows has the same commands.
PYTHON ?= python3
.PHONY: draw test lint bench

draw test lint bench:
	@$(PYTHON) scripts/dev.py $@ $(ARGS)
