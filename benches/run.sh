#!/usr/bin/env bash
# Measures everything and makes docs/performance.md of it. --quick leaves most cases out and keeps the published figures.
set -euo pipefail
cd "$(dirname "$0")"

quick=
if [ "${1:-}" = --quick ]; then
    quick=--quick
    FIGURES=$(mktemp -d)
else
    FIGURES=$PWD/results
    mkdir -p "$FIGURES"
fi
export FIGURES CARGO_TERM_COLOR=never

step() {
    printf '\n=== %s\n' "$*"
    "$@"
}

step cargo build --locked --release --bins --benches
before=$(cut -d' ' -f1 /proc/loadavg)
step cargo bench --locked --bench submission -- $quick
step cargo bench --locked --bench overlap -- $quick
if [ -z "$quick" ]; then
    step cargo bench --locked --bench token_cache
    step cargo bench --locked --bench settings
    step cargo run --locked --release --example wire -- --bench
    step ./criterion.py
    step ./one_core.py
    step ./memory.py
    step ./peers/run.py
    step ./allocations.py
    step ./build_cost.py
fi
step ./callgrind.py

if [ -z "$quick" ]; then
    ./machine.py "$before"
    step ./report.py
else
    printf '\nThe figures of this run are in %s.\n' "$FIGURES"
fi
