# The two commands of the README are `make demo` and `make test`. Everything is installed into .venv; PYTHON chooses the interpreter it is made from.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test lab docs sync clean help $(addprefix reproduce-,digits cifar10-16 cifar10-16-constant cifar10-cpu cifar100-cpu cifar10-small cifar10 cifar10-resnet50 cifar10-gpu cifar10-wide cifar100 cifar100-gpu controls transfer)
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 28

demo: .venv/installed ## train two encoders on the digits, analyse them, write runs/demo/report.html
	$(BIN)/ncib demo --out runs/demo

test: .venv/installed-dev ## check that notebooks and package agree, run every notebook and every test
	set -e; export PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 NCIB_RUNS="$$(mktemp -d)"; trap 'rm -rf "$$NCIB_RUNS"' EXIT; \
	ncib demo --out $$NCIB_RUNS/demo --quiet >/dev/null & ncib demo --label-noise 1 --out $$NCIB_RUNS/demo-random-labels --quiet >/dev/null; wait $$!; \
	nbdev_test --n_workers 2 --do_print
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lab: .venv/installed ## open JupyterLab on the notebooks
	$(BIN)/ncib lab

docs: .venv/installed-dev ## build the documentation site into _docs (needs Quarto)
	@command -v quarto >/dev/null || { echo "make docs needs Quarto 1.7 or later: https://quarto.org/docs/get-started"; exit 1; }
	touch README.md                                  # nbdev would write its own over one that is older than index.ipynb
	rm -rf _proc                                     # or pages that were renamed since would be built, too
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=tools $(BIN)/nbdev_docs

sync: .venv/installed-dev ## export the notebooks to ncib/, clean them, and write README.md from nbs/index.ipynb
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/sync.py --write

# The experiments behind the claims. Each goes on where it was stopped; options through ARGS, e.g. make reproduce-cifar10 ARGS="--data FOLDER" or ARGS=--quick
REPRODUCE = $(BIN)/python experiments/reproduce.py $(@:reproduce-%=%) $(ARGS)

reproduce-digits: .venv/installed-dev ## all conditions, controls and what decides between explanations on the digits, 8 seeds (45 minutes of 2 cores)
	$(REPRODUCE)

reproduce-cifar10-16: .venv/installed-dev ## CIFAR-10 at 16 x 16 pixels, fast and slow learning (2 cores, an hour or two)
	$(REPRODUCE)

reproduce-cifar10-16-constant: .venv/installed-dev ## the same at a constant learning rate (2 cores, an hour or two)
	$(REPRODUCE)

reproduce-cifar10-cpu: .venv/installed-dev ## narrow convolutional networks on CIFAR-10, with controls (2 cores, some hours)
	$(REPRODUCE)

reproduce-cifar100-cpu: .venv/installed-dev ## a pair of them on CIFAR-100 (2 cores)
	$(REPRODUCE)

reproduce-cifar10-small: .venv/installed-dev ## a pair of light networks on a fifth of CIFAR-10 (2 cores, an hour or more)
	$(REPRODUCE)

reproduce-cifar10: .venv/installed-dev ## a pair of ResNet-18 on CIFAR-10 (one GPU)
	$(REPRODUCE)

reproduce-cifar10-resnet50: .venv/installed-dev ## a pair of ResNet-50 on CIFAR-10 (one GPU)
	$(REPRODUCE)

reproduce-cifar10-gpu: .venv/installed-dev ## convolutional networks on CIFAR-10, with controls (one large GPU)
	$(REPRODUCE)

reproduce-cifar10-wide: .venv/installed-dev ## a pair of wide ones (one large GPU)
	$(REPRODUCE)

reproduce-cifar100: .venv/installed-dev ## a pair of ResNet-18 on CIFAR-100 (one GPU)
	$(REPRODUCE)

reproduce-cifar100-gpu: .venv/installed-dev ## a pair of wide convolutional networks on CIFAR-100 (one large GPU)
	$(REPRODUCE)

reproduce-controls: .venv/installed-dev ## the controls on CIFAR-10 (one GPU)
	$(REPRODUCE)

reproduce-transfer: .venv/installed-dev ## the encoders of reproduce-cifar100, unchanged, on CIFAR-10 (one GPU)
	$(REPRODUCE)

clean: ## remove what was built; runs are kept
	rm -rf .venv _docs _proc build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("ncib needs Python 3.11 or later, this is " + sys.version.split()[0] + "; use make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "installing into .venv (PyTorch is large: this takes a few minutes)"
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	@echo "installing into .venv (PyTorch is large: this takes a few minutes)"
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/installed
