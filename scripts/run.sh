#!/usr/bin/env bash
# Builds virtstatd, starts it, shows a first scrape and keeps it in the foreground. Without a libvirtd on this machine
# it shows libvirt's built-in test driver instead.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LISTEN=${VIRTSTATD_LISTEN:-127.0.0.1:9177}
readonly READY_SECONDS=30

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    cat <<'EOF'
usage: scripts/run.sh

Installs what is missing, builds virtstatd, and runs it in the foreground with this host's VMs, or with libvirt's test
driver where no libvirtd listens. Its exit status is virtstatd's.

environment:
  VIRTSTATD_LISTEN=ADDRESS:PORT   where to serve (default 127.0.0.1:9177)
EOF
    exit 0
fi

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
PATH=$cargo_dir:$PATH cargo build --release --locked

if find_libvirtd; then
    uri=qemu:///system
    say "libvirtd listens here: showing this host's VMs ($uri)"
else
    uri=test:///default
    say "No libvirtd listens here, so this shows libvirt's embedded test driver ($uri): one VM, which is not real."
    say "To see real guests: make lab-up N=20, then make run."
fi

trap forward INT TERM HUP
# Whoever has the port already would answer in virtstatd's place. virtstatd itself says that the port is in use.
taken=0
port_taken && taken=1
"${CARGO_TARGET_DIR:-target}/release/virtstatd" run --uri "$uri" --listen "$LISTEN" &
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
