#!/usr/bin/env bash
# The gate: everything that must hold before a change goes in. Every step runs even if an earlier one failed, so that one
# run shows all there is to mend.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    cat <<'EOF'
usage: scripts/test.sh

Installs what is missing, checks format, lints, scripts and the systemd unit, and runs all tests, those with 20 to
200 real guests included. The last line is "N passed, N failed, N skipped"; a step that failed counts as one failed test.

environment:
  VIRTSTATD_LAB=skip   start no real guests, and skip the tests that need them. Without it this must run as root.
  VIRTSTATD_TEST_ABSENCE=SECONDS
                       how long libvirtd stays away in the test of that (default 60)
EOF
    exit 0
fi

lab=${VIRTSTATD_LAB:-}
case $lab in
'' | 1 | skip) ;;
*)
    echo "VIRTSTATD_LAB is '$lab'; it must be skip or unset" >&2
    exit 2
    ;;
esac
if [[ $lab != skip ]] && ((EUID != 0)); then
    echo "The tests with real guests need root: run as root, or VIRTSTATD_LAB=skip make test" >&2
    exit 1
fi

work=$(mktemp -d)
failed_steps=()
runner=
cleanup() {
    # The tests lead a group of their own, with all that one of them left when it crashed.
    [[ -z $runner ]] || kill -KILL -- -"$runner" 2>/dev/null || true
    [[ $lab == skip ]] || { tests/lab/lab.sh thaw && tests/lab/lab.sh down; } >"$work/lab-down" 2>&1 || cat "$work/lab-down"
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() {
    local name=$1 begin=$SECONDS status=0
    shift
    printf '\n==== %s\n' "$name"
    "$@" 2>&1 || status=$?
    if ((status == 0)); then
        printf '==== %s: good, %d s\n' "$name" $((SECONDS - begin))
    else
        printf '==== %s: FAILED, %d s\n' "$name" $((SECONDS - begin))
        failed_steps+=("$name")
        return 1
    fi
}

check_scripts() {
    local scripts
    mapfile -t scripts < <(find . -path ./target -prune -o -name '*.sh' -print -o -path ./.ci/run -print)
    shellcheck "${scripts[@]}"
}

# The unit as shipped, but for the binary's place: systemd-analyze wants it to exist. Warnings count, as a misspelt key
# is one.
check_unit() {
    local binary
    binary=$(realpath "${CARGO_TARGET_DIR:-target}/debug/virtstatd")
    grep -q '^ExecStart=/usr/bin/virtstatd ' systemd/virtstatd.service || {
        echo "systemd/virtstatd.service does not start /usr/bin/virtstatd"
        return 1
    }
    sed "s|^ExecStart=/usr/bin/virtstatd |ExecStart=$binary |" systemd/virtstatd.service >"$work/virtstatd.service"
    systemd-analyze verify --man=no --recursive-errors=one "$work/virtstatd.service"
}

start_lab() {
    if [[ $lab == skip ]]; then
        echo "VIRTSTATD_LAB=skip: no real guests, and the tests that need them are SKIPPED"
    else
        # What an earlier run left may be frozen, or of another kind.
        tests/lab/lab.sh down && tests/lab/lab.sh up 20 && lab=1
    fi
}

run_tests() {
    if [[ -n $lab ]]; then export VIRTSTATD_LAB=$lab; else unset VIRTSTATD_LAB; fi
    # Tests that find no guests, or not the program that they try, pass, and name themselves here.
    export VIRTSTATD_SKIPPED=$work/skipped
    local status=0
    # A test that hangs is to be told from one that works, and the rest of the gate is to be seen.
    timeout --kill-after=30s 45m cargo test --workspace --locked --no-fail-fast >"$work/tests.log" 2>&1 &
    runner=$!
    tail --pid=$runner --lines=+1 --follow "$work/tests.log"
    wait $runner || status=1
    # A test program that crashed may have left servers, which would keep this step's output open for ever. timeout leads a
    # group of its own.
    kill -KILL -- -$runner 2>/dev/null || true
    runner=
    # Hand-overs between threads, in every order: with the locks of the model checker.
    cargo test --locked --lib --features model-check sampling::model 2>&1 | tee -a "$work/tests.log" || status=1
    return $status
}

# Prints "passed failed ignored", summed over all test programs.
count_tests() {
    awk '/^test result:/ {
             for (i = 2; i <= NF; i++) {
                 if ($i ~ /^passed/) passed += $(i - 1)
                 if ($i ~ /^failed/) failed += $(i - 1)
                 if ($i ~ /^ignored/) ignored += $(i - 1)
             }
         }
         END { print passed + 0, failed + 0, ignored + 0 }' "$1"
}

: >"$work/tests.log"
: >"$work/skipped"
[[ $lab == skip ]] || lab= # 1 only once the guests are up

if step "what the tests need" scripts/install-deps.sh test; then
    cargo_dir=$(scripts/install-deps.sh cargo-dir)
    PATH=$cargo_dir:$PATH
    step "format" cargo fmt --all --check || true
    step "lints" cargo clippy --workspace --all-targets --locked -- -D warnings || true
    step "scripts" check_scripts || true
    if step "build" cargo test --workspace --locked --no-run; then
        step "systemd unit" check_unit || true
        step "real guests" start_lab || true
        step "tests" run_tests || true
    fi
fi

read -r passed failed skipped < <(count_tests "$work/tests.log")
for name in "${failed_steps[@]}"; do
    # Failed tests are counted one by one already.
    if [[ $name != tests ]] || ((failed == 0)); then ((++failed)); fi
done
not_tested=$(wc -l <"$work/skipped")
if ((not_tested)); then
    printf '\nNOT TESTED, for want of what they need:\n'
    sort "$work/skipped"
    passed=$((passed - not_tested))
    skipped=$((skipped + not_tested))
fi
cleanup
trap - EXIT
((${#failed_steps[@]} == 0)) || printf '\nfailed: %s\n' "${failed_steps[*]}"
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
