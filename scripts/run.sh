#!/usr/bin/env bash
# Builds virtstatd, starts it, shows a first scrape and keeps it in the foreground. Without a libvirtd on this machine, or with
# --demo, it shows 50 simulated guests, two of which get into trouble.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LISTEN=${VIRTSTATD_LISTEN:-127.0.0.1:9177}
readonly READY_SECONDS=30

demo=0
case ${1:-} in
'') ;;
--demo) demo=1 ;;
-h | --help)
    cat <<'EOF'
usage: scripts/run.sh [--demo]

Installs what is missing, builds virtstatd, and runs it in the foreground with this host's VMs. With --demo, and where no
libvirtd listens, it starts virtstat-sim beside it: 50 simulated VMs, two of which get into trouble. Its exit status is
virtstatd's.

environment:
  VIRTSTATD_LISTEN=ADDRESS:PORT   where to serve (default 127.0.0.1:9177)
EOF
    exit 0
    ;;
*)
    echo "scripts/run.sh: unknown argument '$1'; try --help" >&2
    exit 2
    ;;
esac

say() { printf '%s\n' "$*"; }

# A socket file stays behind when a libvirtd is killed, so the file alone says little. The kernel's list of sockets says
# whether somebody listens (flag 00010000), without a connection that libvirtd would log as broken.
find_libvirtd() {
    local socket
    for socket in {/run,/var/run}/libvirt/{libvirt-sock-ro,virtqemud-sock-ro}; do
        [[ -S $socket && -w $socket ]] || continue
        awk -v path="$socket" '$4 == "00010000" && $NF == path { found = 1 } END { exit !found }' /proc/net/unix &&
            return
    done
    return 1
}

# True if anything listens at $LISTEN.
port_taken() {
    local host=${LISTEN%:*}
    host=${host#[}
    host=${host%]}
    (: <>"/dev/tcp/$host/${LISTEN##*:}") 2>/dev/null
}

child=
simulator=
directory=
cleanup() {
    [[ -z $simulator ]] || { kill -TERM "$simulator" && wait "$simulator"; } 2>/dev/null || true
    [[ -z $directory ]] || rm -rf "$directory"
}
trap cleanup EXIT

forwarded=0
forward() {
    forwarded=1
    # A shell without job control starts its children deaf to Ctrl-C; SIGTERM is heard in every case.
    [[ -n $child ]] || exit 130
    kill -TERM "$child" 2>/dev/null || true
}

# A signal ends bash's wait early, with a status that is not the child's.
finish_with_child() {
    local status
    while true; do
        forwarded=0
        status=0
        wait "$child" || status=$?
        ((forwarded)) || exit "$status"
    done
}

get() { curl --noproxy '*' -sS --max-time 10 "$@"; }

wait_until_ready() {
    local begin=$SECONDS
    while kill -0 "$child" 2>/dev/null && ((SECONDS - begin < READY_SECONDS)); do
        get --fail "http://$LISTEN/-/ready" &>/dev/null && return
        sleep 0.1
    done
    return 1
}

show_first_scrape() {
    local scrape
    scrape=$(get --fail "http://$LISTEN/metrics") || return 0
    say ""
    say "What http://$LISTEN/metrics says of one VM:"
    awk '/^libvirt_domain_/ && !/_info[{]/ && match($0, /uuid="[^"]*"/) {
             uuid = substr($0, RSTART, RLENGTH)
             if (!first) first = uuid
             if (uuid == first) { print "    " $0; if (++lines == 25) exit }
         }' <<<"$scrape"
    say "    ... and more: $(grep -c '^[^#]' <<<"$scrape" || true) series in all"
}

scripts/install-deps.sh run
cargo_dir=$(scripts/install-deps.sh cargo-dir)
readonly built=${CARGO_TARGET_DIR:-target}/release
PATH=$cargo_dir:$PATH cargo build --release --locked --workspace

# 50 guests on a socket of their own; how to reach them is said once they are there.
start_simulator() {
    directory=$(mktemp -d)
    local socket=$directory/libvirt-sock begin=$SECONDS
    "$built/virtstat-sim" --socket "$socket" --scenario sim/scenarios/demo.toml --log-level warn >/dev/null &
    simulator=$!
    until [[ -S $socket ]]; do
        if ! kill -0 "$simulator" 2>/dev/null || ((SECONDS - begin > READY_SECONDS)); then
            say "the simulator does not listen"
            exit 1
        fi
        sleep 0.05
    done
    uri="qemu+unix:///system?socket=$socket"
    say "virtstat-sim has 50 VMs, none of them real. One stops answering after 10 s, the storage of another after 20 s: watch"
    say "    curl -s http://$LISTEN/api/v1/status"
    say "and do more to them:"
    say "    $built/virtstat-sim ctl --control $socket.control --help"
}

if ((demo)); then
    start_simulator
elif find_libvirtd; then
    uri=qemu:///system
    say "libvirtd listens here: showing this host's VMs ($uri). 50 simulated ones, two of them in trouble: make demo"
else
    say "No libvirtd listens here, so this shows simulated VMs. To see real ones: make lab-up N=20, then make run."
    start_simulator
fi

trap forward INT TERM HUP
# Whoever has the port already would answer in virtstatd's place. virtstatd itself says that the port is in use.
taken=0
port_taken && taken=1
"$built/virtstatd" run --uri "$uri" --listen "$LISTEN" &
child=$!
((taken == 0)) || finish_with_child

if wait_until_ready; then
    say ""
    say "virtstatd is ready. Open:"
    say "    http://$LISTEN/metrics          for Prometheus"
    say "    http://$LISTEN/api/v1/domains   the VMs, as JSON"
    say "    http://$LISTEN/-/ready          whether every VM has answered"
    show_first_scrape
elif kill -0 "$child" 2>/dev/null; then
    say "virtstatd is not ready after $READY_SECONDS s. http://$LISTEN/-/ready says:"
    get "http://$LISTEN/-/ready" || true
    say ""
fi
if kill -0 "$child" 2>/dev/null; then
    say ""
    say "running; Ctrl-C stops it"
fi
finish_with_child
