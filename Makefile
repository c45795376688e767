# pgbridge: everything a newcomer types. Each target is one short script or one cargo call.

.DEFAULT_GOAL := help
.PHONY: help build demo demo-check test bench lint

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

build: ## Build the release binary, target/release/pgbridge
	cargo build --release --locked

demo: ## Run pgbridge with a throw-away PostgreSQL and directory, until Ctrl-C
	scripts/install-packages demo
	$(MAKE) --no-print-directory build
	scripts/demo

demo-check: ## The same without a person: log in, issue, select, refuse, revoke, prove
	scripts/install-packages demo
	$(MAKE) --no-print-directory build
	scripts/demo --check

test: ## Install what the tests need and run all of them
	scripts/install-packages test
	scripts/test

bench: ## Measure against bare SQL, one JSON line a measurement [BENCH=name]
	scripts/install-packages test
	cargo bench --locked --bench side_by_side -- $(BENCH)

lint: ## Format, clippy, documentation, licences and bans
	scripts/lint
