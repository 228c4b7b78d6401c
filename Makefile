# Thin names for the scripts, which hold the reasons.
N ?= 60
cargo = PATH="$$(scripts/install-deps.sh cargo-dir):$$PATH" cargo

.DEFAULT_GOAL := help
.PHONY: help run demo test lab-up lab-down lab-status bench fmt clean

help:
	@echo 'make run           install what is missing, build, and serve on 127.0.0.1:9177 (VIRTSTATD_LISTEN)'
	@echo 'make demo          the same on 50 simulated guests, two of which get into trouble'
	@echo 'make test          the whole gate: format, lints, unit, and tests with real guests (as root;'
	@echo '                   VIRTSTATD_LAB=skip make test does without guests and root)'
	@echo 'make lab-up N=60   start N tiny real guests under this machine'"'"'s libvirtd (as root)'
	@echo 'make lab-status    which guests are up'
	@echo 'make lab-down      end them and leave nothing behind'
	@echo 'make bench         how long decoding, rendering and the like take'
	@echo 'make fmt           format the code'
	@echo 'make clean         remove what was built'

run:
	@scripts/run.sh

demo:
	@scripts/run.sh --demo

test:
	@scripts/test.sh

lab-up:
	@scripts/install-deps.sh lab
	@tests/lab/lab.sh up $(N)

lab-down:
	@tests/lab/lab.sh down

lab-status:
	@tests/lab/lab.sh status

bench:
	@$(cargo) bench --locked

fmt:
	@$(cargo) fmt --all

clean:
	@$(cargo) clean
