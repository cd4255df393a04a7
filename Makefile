# One line each; what they do is in tools/bootstrap.py. More words for the program: make test ARGS="-k dispatch"
PYTHON ?= python3

.PHONY: setup demo test check bench campaign lock
.NOTPARALLEL:
setup demo test check bench campaign lock:
	@$(PYTHON) tools/bootstrap.py $@ $(ARGS)
