# One line each: scripts/dev.py does the work, so that Windows has the same commands.
PYTHON ?= python3
.PHONY: generate draw test lint bench tables docs lowest sdist

generate draw test lint bench tables docs lowest sdist:
	@$(PYTHON) scripts/dev.py $@ $(ARGS)
