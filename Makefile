# make demo   the tour: a private PostgreSQL, 5,000 invented people, the proxy; ONCE=1 leaves after the tour
# make test   every test, against a real PostgreSQL and real drivers
# make lint   formatting, clippy, house rules
# make conformance  PostgreSQL 15's own regression and isolation suites and sqlsmith, direct and through pgveil
# make clients  drivers and ORMs, each direct and through pgveil; writes the README's table of them (some minutes)
# make fuzz   every parser of hostile bytes under libFuzzer, SECONDS=600 each; needs nightly Rust and cargo-fuzz.
#             TARGETS="value plan" picks some. What is found is in target/fuzz/artifacts
# make oracle  how pgveil reads SQL against PostgreSQL's own parser: its regression statements and 1,000,000 mutations of
#             them; MUTATIONS=n SEED=n; needs libclang
# make bench  the pure rooms in nanoseconds, and pgbench direct / PgBouncer / pgveil
# make who    "who saw this person's data" asked of a log of EVENTS=1000000 events: written, copied into PostgreSQL, timed
# make scripts  20,000 random scripts of protocol messages, direct and through pgveil; SCRIPTS=n SEED=n
# make filters  10,000 random queries through a lens, and on tables where the hidden is physically absent; QUERIES=n SEED=n
# make properties  10,000 random values of every type through pgveil and an unsealed twin, byte by byte; VALUES=n
# make edits  10,000 random single edits of an access log, plain, compressed and pruned, each found where it was made; EDITS=n
# make crash  200 times kill -9 in the middle of reads: every row a client got has its earlier record; KILLS=n SEED=n
# make detect  the detector on generated months of a hospital with injected attacks, beside two baselines; SEEDS=n months,
#             CLINICIANS=n of each, CHECK=1 fails on a missed bar; SQL=1 a sample as real SQL through pgveil, SEED=n
# make windows  1,000,000 random predicates of the detector's windows against counting everything; PREDICATES=n SEED=n
# make gigabyte  the longest message PostgreSQL takes, about something sealed, in every form; needs 16 GiB of memory; MIB=n
# make simulations  simulated networks, hosts, disks and clients that fail, SEEDS=n of them or the one of SEED=n
CARGO ?= cargo
SECONDS := 600
TARGETS :=
SKIPPED := target/tests/skipped

.PHONY: demo test lint fmt bench who conformance clients fuzz oracle scripts filters properties edits crash detect windows gigabyte simulations

demo:
	@.ci/needs demo
	@$(CARGO) run --locked --bin pgveil -- demo $(if $(ONCE),--once)

test:
	@.ci/needs test
	@rm -f $(SKIPPED)
	@.ci/canaries target/tests/run $(CARGO) test --locked
	@if [ -s $(SKIPPED) ]; then echo "skipped:"; sort -u $(SKIPPED); case "$$CI" in 1|true) exit 1;; esac; fi

lint:
	@$(CARGO) fmt --check
	@$(CARGO) clippy --locked --all-targets --quiet -- -D warnings
	@$(CARGO) test --locked --quiet --test tidy
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --log-level error check bans licenses sources; fi

fmt:
	@$(CARGO) fmt

bench:
	@.ci/needs bench
	@$(CARGO) bench --locked --bench rooms
	@bench/e2e.py

who:
	@.ci/needs demo
	@EVENTS=$(or $(EVENTS),1000000) $(CARGO) run --locked --release --example who

conformance:
	@.ci/needs conformance
	@tests/conformance/regress.sh
	@tests/conformance/sqlsmith.py

clients:
	@.ci/needs clients
	@tests/clients/matrix.sh

fuzz:
	@tests/fuzz/all.sh $(SECONDS) $(TARGETS)

oracle:
	@.ci/needs oracle
	@MUTATIONS=$(or $(MUTATIONS),1000000) SEED=$(or $(SEED),0) CARGO="$(CARGO)" tests/oracle/run.sh

scripts:
	@.ci/needs demo
	@PGVEIL_TEST_SCRIPTS=$(or $(SCRIPTS),20000) PGVEIL_TEST_SEED=$(or $(SEED),0) \
	    $(CARGO) test --locked --test main protocol_scripts

filters:
	@.ci/needs demo
	@PGVEIL_TEST_QUERIES=$(or $(QUERIES),10000) PGVEIL_TEST_SEED=$(or $(SEED),0) \
	    $(CARGO) test --locked --test main -- --nocapture absent::

properties:
	@.ci/needs demo
	@PGVEIL_TEST_VALUES=$(or $(VALUES),10000) $(CARGO) test --locked --test main properties

edits:
	@PGVEIL_TEST_EDITS=$(or $(EDITS),10000) $(CARGO) test --locked --lib any_single_edit

crash:
	@.ci/needs demo
	@PGVEIL_TEST_KILLS=$(or $(KILLS),200) PGVEIL_TEST_SEED=$(or $(SEED),0) \
	    $(CARGO) test --locked --test main -- crash::every_row

detect:
ifdef SQL
	@.ci/needs demo
	@PGVEIL_TEST_SEED=$(or $(SEED),0) $(CARGO) test --locked --test main -- --nocapture detect_sql::
else
	@$(CARGO) bench --locked --quiet --bench detect -- --seeds $(or $(SEEDS),3) \
	    $(if $(CLINICIANS),--clinicians $(CLINICIANS)) $(if $(CHECK),--check)
endif

windows:
	@PGVEIL_TEST_PREDICATES=$(or $(PREDICATES),1000000) PGVEIL_TEST_SEED=$(or $(SEED),1) \
	    $(CARGO) test --locked --lib detect::window::tests::random_predicates -- --nocapture

gigabyte:
	@.ci/needs demo
	@PGVEIL_TEST_MIB=$(or $(MIB),1024) $(CARGO) test --locked --release --test main gigabyte

simulations:
	@PGVEIL_TEST_SIM_SEEDS=$(or $(SEEDS),2000) $(if $(SEED),PGVEIL_TEST_SIM_SEED=$(SEED)) \
	    $(CARGO) test --locked --lib simulation::whatever -- --nocapture
