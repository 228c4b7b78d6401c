#!/usr/bin/env bash
# Installs what building, testing and the laboratory need, from the distribution's own packages.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'EOF'
usage: scripts/install-deps.sh [run|test|lab|cargo-dir]

  run        what building and running virtstatd needs: a C linker, libvirt's headers, a recent cargo (the default)
  test       that, and all that the tests need: rustfmt and clippy, libvirtd, QEMU, promtool, shellcheck,
             systemd-analyze, other clients of libvirt; schemathesis, from Python's package index, in target/tools
  lab        only what tests/lab/lab.sh needs: libvirtd and QEMU
  cargo-dir  install nothing; print the directory of a cargo that is recent enough, or fail

Does nothing, in no time, when all is there. Uses sudo when not run as root.
EOF
}

say() { printf 'deps: %s\n' "$*"; }
die() {
    printf 'deps: %s\n' "$*" >&2
    exit 1
}

# "package" must be installed; with "package=command" any command of that name will do, wherever it came from.
readonly RUN_PACKAGES=(
    gcc=gcc libc6-dev make=make pkg-config=pkg-config libvirt-dev ca-certificates curl=curl
)
readonly LAB_PACKAGES=(
    libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients=virsh
    qemu-system-x86=qemu-system-x86_64 binutils=objcopy iproute2=ip procps=pgrep
)
readonly TEST_PACKAGES=(
    prometheus=promtool jq=jq shellcheck=shellcheck systemd=systemd-analyze
    python3-libvirt prometheus-libvirt-exporter python3-venv dnsmasq-base
)

as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }

# Said before anything is touched, with one command that does it all.
need_root_for() {
    ((EUID == 0)) || command -v sudo >/dev/null || die "missing: $*, and there is no sudo. As root, run:
    apt-get update && apt-get install --no-install-recommends $*"
}

missing_of() {
    local entry package command
    for entry; do
        package=${entry%%=*}
        command=${entry#*=}
        if [[ $entry == *=* ]]; then
            command -v "$command" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null ||
                printf '%s\n' "$package"
        elif ! dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
            printf '%s\n' "$package"
        fi
    done
}

apt_updated=0
apt_update() {
    ((apt_updated)) && return
    say "reading the package lists"
    as_root apt-get update -qq
    apt_updated=1
}

apt_install() {
    say "installing: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends "$@"
}

# The package with promtool starts a Prometheus server, and that of the exporter starts it, at every boot from then on. Only
# the programs are wanted here.
install_without_servers() {
    local policy=/usr/sbin/policy-rc.d status=0
    local ours=0
    if [[ " $* " == *" prometheus"* && ! -e $policy ]]; then
        # shellcheck disable=SC2016 # $1 belongs to the script that is written here
        printf '#!/bin/sh\ncase $1 in prometheus*) exit 101 ;; esac\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        ours=1
    fi
    apt_install "$@" || status=$?
    ((ours == 0)) || as_root rm -f "$policy"
    ((status == 0)) || die "apt-get could not install these packages"
    local service
    for service in prometheus prometheus-libvirt-exporter; do
        [[ " $* " == *" $service "* ]] || continue
        if [[ -d /run/systemd/system ]]; then
            as_root systemctl disable --quiet --now "$service"
        elif command -v update-rc.d >/dev/null; then
            as_root update-rc.d "$service" disable
        fi
    done
}

# ---- cargo ----------------------------------------------------------------------------------------------------------

required_rust() {
    local version
    version=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml | head -n 1)
    [[ -n $version ]] || die "Cargo.toml names no rust-version"
    printf '%s' "$version"
}

at_least() { printf '%s\n%s\n' "$1" "$2" | sort --version-sort --check=silent; }

cargo_version() { "$1" --version 2>/dev/null | sed -n 's/^cargo \([0-9][0-9.]*\).*/\1/p'; }

# rustup puts cargo into ~/.cargo/bin, which is on the PATH of login shells only.
cargo_dir() {
    local cargo
    for cargo in "$(command -v cargo || true)" "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" /usr/bin/cargo; do
        if [[ -x $cargo ]] && at_least "$1" "$(cargo_version "$cargo" || true)"; then
            dirname "$cargo"
            return
        fi
    done
    return 1
}

use_rustup() {
    cat >&2 <<EOF
deps: virtstatd needs cargo $1 or later, and neither this machine nor its package archive has one.
deps: rustup, https://rustup.rs, installs it for your user:
deps:     curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- --profile default
deps: If rustup is there already: rustup update stable
EOF
    exit 1
}

candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9][0-9.]*\).*/\1/p'; }

# Debian's security archive carries a recent toolchain, for building browsers, beside the release's own old one.
ensure_cargo() {
    local wanted with_tools=$1 dir
    wanted=$(required_rust)
    if ! dir=$(cargo_dir "$wanted"); then
        command -v apt-get >/dev/null || use_rustup "$wanted"
        at_least "$wanted" "$(candidate cargo-web)" || {
            need_root_for rustc-web cargo-web
            apt_update
        }
        at_least "$wanted" "$(candidate cargo-web)" || use_rustup "$wanted"
        need_root_for rustc-web cargo-web
        apt_install rustc-web cargo-web
        hash -r
        dir=$(cargo_dir "$wanted") || use_rustup "$wanted"
    fi
    say "cargo $(cargo_version "$dir/cargo") in $dir"
    ((with_tools)) || return 0
    if PATH=$dir:$PATH cargo fmt --version &>/dev/null && PATH=$dir:$PATH cargo clippy --version &>/dev/null; then
        return
    elif [[ -x $dir/rustup ]]; then
        say "rustup adds rustfmt and clippy"
        "$dir/rustup" component add rustfmt clippy
    elif [[ $(dpkg-query --search "$dir/cargo" 2>/dev/null) == cargo-web:* ]]; then
        need_root_for rustfmt-web rust-web-clippy
        [[ $(candidate rust-web-clippy) ]] || apt_update
        apt_install rustfmt-web rust-web-clippy
    else
        die "cargo in $dir has no rustfmt or no clippy; install those that belong to it"
    fi
}

# No distribution packages schemathesis. A directory of its own below target: nothing else of the machine is touched.
ensure_schemathesis() {
    local tools=target/tools
    [[ -x $tools/bin/schemathesis ]] && return
    say "schemathesis, in $tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check 'schemathesis>=4,<5'
}

# ---- other distributions --------------------------------------------------------------------------------------------

name_other_packages() {
    local fedora='gcc make pkgconf-pkg-config libvirt-devel ca-certificates curl cargo'
    local arch='gcc make pkgconf libvirt ca-certificates curl rust'
    if [[ $1 != run ]]; then
        fedora+=' libvirt-daemon-kvm libvirt-client qemu-kvm binutils iproute procps-ng'
        arch+=' qemu-base binutils iproute2 procps-ng'
    fi
    if [[ $1 == test ]]; then
        fedora+=' rustfmt clippy golang-github-prometheus jq ShellCheck systemd python3-libvirt python3 dnsmasq'
        arch+=' prometheus jq shellcheck systemd libvirt-python python dnsmasq'
    fi
    cat >&2 <<EOF
deps: there is no apt-get here, so this script cannot install what is needed. Please install it yourself:
deps:     Fedora: sudo dnf install $fedora
deps:     Arch:   sudo pacman -S --needed $arch
deps: cargo must be $(required_rust) or later; https://rustup.rs has it where the distribution has not.
EOF
    exit 1
}

main() {
    local what=${1:-run} wanted=() missing=()
    case $what in
    run) wanted=("${RUN_PACKAGES[@]}") ;;
    test) wanted=("${RUN_PACKAGES[@]}" "${LAB_PACKAGES[@]}" "${TEST_PACKAGES[@]}") ;;
    lab) wanted=("${LAB_PACKAGES[@]}") ;;
    cargo-dir)
        cargo_dir "$(required_rust)" || die "no cargo $(required_rust) or later; try: scripts/install-deps.sh"
        return
        ;;
    -h | --help | help)
        usage
        return
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac

    command -v apt-get >/dev/null || name_other_packages "$what"
    mapfile -t missing < <(missing_of "${wanted[@]}")
    if ((${#missing[@]})); then
        need_root_for "${missing[@]}"
        apt_update
        install_without_servers "${missing[@]}"
        mapfile -t missing < <(missing_of "${wanted[@]}")
        ((${#missing[@]} == 0)) || die "installed, and yet not found: ${missing[*]}"
    fi
    case $what in
    run) ensure_cargo 0 ;;
    test)
        ensure_cargo 1
        ensure_schemathesis
        ;;
    esac
    say "all that '$what' needs is there"
}

main "$@"
