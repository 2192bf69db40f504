# Every command that a person types. `make` alone lists them.
# `status` and `down` are about every stack unless one is named, wherever that is done.
GIVEN := $(if $(filter-out undefined file,$(origin STACK)),yes)
STACK ?= dev
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
RUN := $(VENV)/bin/python -m
TESTS ?= tests
# Commands start many short Python processes, and each would compile anew what it imports.
export PYTHONDONTWRITEBYTECODE :=
# As it was typed: neither make nor the shell looks for anything to expand in it.
override export C := $(value C)

.DEFAULT_GOAL := help
.PHONY: help up preview policy status psql redis-cli logs shell drill down bench test lint

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(READY) ## bring an environment up on this machine [STACK=dev|staging|prod|dr]
	@$(RUN) local up "$(STACK)"

preview: $(READY) ## show what `up` would change, drift included [STACK=…]
	@$(RUN) local preview "$(STACK)"

policy: $(READY) ## judge a stack file, or all: the gate for CI [STACK=…|all]
	@$(RUN) local policy "$(STACK)"

status: $(READY) ## say what runs where, and how to reach it
	@$(RUN) local status $(if $(GIVEN),"$(STACK)")

psql: $(READY) ## open psql on the primary [STACK=…] [C="select 1"]
	@$(RUN) local psql "$(STACK)" $(if $(C),"$$C")

redis-cli: $(READY) ## open redis-cli on the master [STACK=…] [C="info replication"]
	@$(RUN) local redis-cli "$(STACK)" $(if $(C),"$$C")

logs: $(READY) ## show what a service or data system printed, SERVICE=… [STACK=…]
	@$(RUN) local logs "$(STACK)" $(or $(SERVICE),$(error say which: make logs SERVICE=gateway))

shell: $(READY) ## open a shell with kubectl, in a Pod (SERVICE=…) or on a node (NODE=…) [STACK=…]
	@$(RUN) local shell "$(STACK)" $(if $(SERVICE),--service $(SERVICE)) $(if $(NODE),--node $(NODE))

drill: $(READY) ## cause a fault and account for it, DRILL=postgres-node [TIMES=10] [STACK=…]
	@$(RUN) drills $(or $(DRILL),list) --times $(or $(TIMES),1) --stack "$(STACK)"

down: $(READY) ## end the local worlds and forget what they held [STACK=…]
	@$(RUN) local down $(if $(GIVEN),"$(STACK)")

bench: $(READY) ## compare the policies with other checkers; what they, and many databases, cost [CHECKOV=… TRIVY=…]
	@CHECKOV=$(CHECKOV) TRIVY=$(TRIVY) $(RUN) benchmarks.checkers
	@$(RUN) benchmarks.policies
	@$(RUN) benchmarks.databases

test: $(READY) lint ## check everything
	@$(RUN) local test $(TESTS)

lint: $(READY)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy .

# Several runs may start at once: one sets up, the others wait.
$(READY): requirements.txt constraints.txt
	@mkdir -p $(VENV)
	@flock $(VENV)/.lock sh local/setup.sh $(PYTHON) $(VENV)
