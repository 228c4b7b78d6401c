#!/usr/bin/env bash
# A laboratory of real guests: QEMU processes under the system's libvirtd, so small that hundreds fit on a workstation.
#
# What makes a guest "the lab's" is that it boots the lab's own ROM (see write_rom). That needs no bookkeeping that
# could go stale, holds for guests that a test defined from `lab.sh xml`, and can be read from /proc even while
# libvirtd hangs. Whatever boots something else is never touched.
set -euo pipefail

readonly URI=qemu:///system
readonly STATE=/var/lib/virtstatd-lab # not under /tmp or /root: QEMU runs as a user of its own
readonly ROM=$STATE/boot.rom
readonly TEMPLATE=$STATE/template.img
readonly CHATTER=$STATE/chatter.bin # a boot sector
readonly SCRIBBLER=$STATE/scribbler.bin # another
readonly IMAGES=$STATE/images
readonly GUESTS=$STATE/guests     # one directory per guest name: name, taps, disks, domain.xml
readonly DAEMONS=$STATE/daemons   # what `up` started, and `down` may therefore stop
readonly ACCEL=$STATE/accelerator # kvm or qemu (TCG): the domain type
readonly RUN_DIR=/run/libvirt/qemu
readonly LOG_DIR=/var/log/libvirt/qemu
readonly LOCK=/run/virtstatd-lab.lock

usage() {
    cat <<'EOF'
lab.sh: real guests to test virtstatd with. Needs root, x86-64, libvirtd and QEMU (scripts/install-deps.sh lab).

usage: lab.sh COMMAND

  up [N]        have the guests lab-001 ... lab-N running (default 20, at most 999). Starts libvirtd if none answers.
                Repeating it does nothing; a higher N adds guests; a lower N leaves the others running.
  down          end every guest of the lab, remove all that belongs to it, and stop libvirtd if the lab started it.
  status        the guests with pid and state, KVM or TCG, and whose libvirtd it is.
  thaw          continue every guest of the lab that was frozen.
  xml NAME [--disks K] [--nics K] [--vcpus K] [--vcpus-maximum K] [--iothreads K] [--balloon] [--busy | --chatter | --scribbler]
           [--uuid UUID] [--title TEXT] [--description TEXT] [--metadata XML]
                print the domain XML of a lab guest with that name, whatever characters it has, and create its disks:
                    lab.sh xml 'odd "name"' --disks 3 >odd.xml && virsh create odd.xml
                A name always gets the same UUID unless one is given. `down` finds such a guest as well.
                --vcpus-maximum: `virsh setvcpus NAME K --live` may add vCPUs up to this many.
                --iothreads: so many I/O threads, and the disks take turns at them.
                --busy: it computes for ever instead of halting.
                --chatter: it drives its first NIC. It sends 8 frames of 60 bytes 18 times a second, takes whatever is
                sent to it, and answers requests to unplug devices and vCPUs within a second. (vCPUs with KVM only: with TCG,
                QEMU 7.2 crashes at it.)
                --scribbler: it computes for ever, and reads and writes a sector of its first disk, by turns, some dozen times
                a second.
  libvirtd ACTION
                what may happen to a libvirtd; the guests live on.
                kill: SIGKILL. stop: end it in order. start: have it running, and answering.
                freeze: SIGSTOP. continue: SIGCONT. pid: print its pid.
  disk ID       create one more 1 MiB image and print its path. ID is a word, or a path below the image directory.

A guest has 16 MiB of memory, one vCPU, one virtio disk and one tap, and halts after it has read its boot sector once.
No operating system runs in it, so nothing but a --chatter answers an unplug request: after `virsh detach-disk`,
`virsh reset` of the guest completes the unplugging. Nothing but a --chatter takes what its tap is sent, either: the
host counts one packet of it, keeps as many as its queue holds, and drops the rest.

To freeze a guest, as libvirt sees one whose storage died:
    kill -STOP "$(cat /run/libvirt/qemu/lab-007.pid)"    # and lab.sh thaw, always, when done
libvirt writes names into these file names as XML: the guest "a&b" has "a&amp;b.pid".

environment:
  VIRTSTATD_LAB_ACCEL=kvm|tcg   do not look whether KVM works, use this
EOF
}

say() { printf 'lab: %s\n' "$*"; }
warn() { printf 'lab: %s\n' "$*" >&2; }
die() {
    warn "$*"
    exit 1
}

need_root() { ((EUID == 0)) || die "this needs root; try: sudo $0 $*"; }

# Held until the script ends; what outlives the script must not inherit it (9>&-).
take_lock() {
    exec 9>"$LOCK"
    flock --nonblock 9 || {
        say "another lab.sh is at work; waiting for it"
        flock 9
    }
}

vsh() { timeout 60 virsh --quiet --connect "$URI" "$@"; }

seconds_since() {
    local us=$((${EPOCHREALTIME/[.,]/} - $1))
    printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}
now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# ---- processes ------------------------------------------------------------------------------------------------------

# Prints "STATE STARTTIME" of a process; the two together with the pid tell it from a later one with the same pid.
process_stat() {
    local stat fields
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    read -ra fields <<<"${stat##*) }" # the name in parentheses may hold blanks
    printf '%s %s\n' "${fields[0]}" "${fields[19]}"
}

# A zombie counts as gone: where init is slow to reap, it stays for seconds.
is_alive() {
    local stat
    stat=$(process_stat "$1") && [[ $stat != [ZX]* ]]
}

is_program() {
    local comm
    { read -r comm <"/proc/$1/comm"; } 2>/dev/null && [[ $comm == "$2" ]] && is_alive "$1"
}

# The pids of all running QEMU processes that boot the lab's ROM.
lab_pids() {
    local file pid comm
    while IFS= read -r file; do
        pid=${file#/proc/}
        pid=${pid%/cmdline}
        # grep and others may name the ROM too; only QEMU boots it.
        { read -r comm <"/proc/$pid/comm"; } 2>/dev/null || continue
        [[ $comm == qemu* ]] && printf '%s\n' "$pid"
    done < <(grep -slzxF -- "$ROM" /proc/[0-9]*/cmdline)
}

# libvirt writes the name into the pid file's name as XML text: a guest `a&b` has `a&amp;b.pid`.
xml_unescape() {
    local text=$1
    text=${text//'&quot;'/'"'}
    text=${text//'&apos;'/"'"}
    text=${text//'&lt;'/'<'}
    text=${text//'&gt;'/'>'}
    text=${text//'&amp;'/"&"}
    printf '%s' "$text"
}

# Prints "PID NAME" for every running lab guest, in the order of names.
lab_guests() {
    local -A ours=()
    local pid file
    while read -r pid; do ours[$pid]=1; done < <(lab_pids)
    ((${#ours[@]})) || return 0
    for file in "$RUN_DIR"/*.pid; do
        pid=0
        read -r pid <"$file" 2>/dev/null || true # libvirt ends the file without a newline, and read then fails
        [[ -n ${ours[$pid]:-} ]] || continue
        file=${file##*/}
        printf '%s %s\n' "$pid" "$(xml_unescape "${file%.pid}")"
    done
}

# ---- libvirtd -------------------------------------------------------------------------------------------------------

libvirtd_answers() { timeout 15 virsh --quiet --connect "$URI" hostname &>/dev/null; }

libvirt_units() {
    systemctl list-units --plain --no-legend --state=active \
        'libvirtd*' 'virtlogd*' 'virtlockd*' | awk '{ print $1 }' | sort
}

# Without systemd's udev rule /dev/kvm may be closed to QEMU's user. libvirtd then takes KVM for vanished and probes
# QEMU anew for every single guest, which takes most of a minute each. This is the mode that udev would have set.
open_kvm() {
    [[ -c /dev/kvm ]] || return 0
    local mode group
    read -r mode group < <(stat --format='%a %G' /dev/kvm)
    (((8#$mode & 8#006) == 8#006)) && return
    [[ " $(id -nG libvirt-qemu 2>/dev/null) " == *" $group "* ]] && (((8#$mode & 8#060) == 8#060)) && return
    getent group kvm >/dev/null || return 0
    chgrp kvm /dev/kvm
    chmod 660 /dev/kvm
    say "opened /dev/kvm to the group kvm"
}

start_daemon() {
    local name=$1 pid
    shift
    if ! "$name" --daemon "$@" </dev/null >"$STATE/$name.out" 2>&1 9>&-; then
        cat "$STATE/$name.out" >&2
        die "$name did not start"
    fi
    pid=$(<"/run/$name.pid")
    printf 'process %s %s %s\n' "$name" "$pid" "$(process_stat "$pid" | cut -d' ' -f2)" >>"$DAEMONS"
    say "started $name, pid $pid"
}

ensure_libvirtd() {
    libvirtd_answers && return
    if [[ -d /run/systemd/system ]]; then
        local before
        before=$(libvirt_units)
        systemctl start libvirtd
        comm -13 <(printf '%s\n' "$before") <(libvirt_units) | sed 's/^/unit /' >>"$DAEMONS"
        say "started libvirtd by systemctl"
    else
        if [[ -s /run/libvirtd.pid ]] && is_program "$(</run/libvirtd.pid)" libvirtd; then
            die "libvirtd (pid $(</run/libvirtd.pid)) runs but does not answer; not starting a second one"
        fi
        # Debian's defaults, but for one thing: reading as another user than root asks polkit, which needs a system bus.
        printf 'auth_unix_ro = "none"\nunix_sock_ro_perms = "0777"\n' >"$STATE/libvirtd.conf"
        if ! { [[ -s /run/virtlogd.pid ]] && is_program "$(</run/virtlogd.pid)" virtlogd; }; then
            start_daemon virtlogd
        fi
        # libvirtd keeps what it learnt about QEMU for as long as the processor's CPUID is the same. It reads a leaf
        # that tells the number of the core it happens to run on, so with some luck it learns all again, 4 s. Hence
        # the same core every time, while it starts.
        local cores
        cores=$(taskset --cpu-list --pid $$)
        cores=${cores##*: }
        taskset --cpu-list --pid "${cores%%[,-]*}" $$ >/dev/null
        start_daemon libvirtd --config "$STATE/libvirtd.conf"
        taskset --cpu-list --pid "$cores" $$ >/dev/null
        await_libvirtd
        # One of its threads may end in between, and the rest then keep to the one core.
        local try
        for try in 1 2 3 4 5; do
            taskset --all-tasks --cpu-list --pid "$cores" "$(</run/libvirtd.pid)" &>/dev/null && break
            ((try < 5)) || warn "libvirtd keeps to one core"
        done
    fi
    await_libvirtd
}

await_libvirtd() {
    local attempt
    for ((attempt = 0; attempt < 100; attempt++)); do
        libvirtd_answers && return
        sleep 0.1
    done
    die "libvirtd was started but does not answer at $URI"
}

stop_process() {
    local name=$1 pid=$2 started=$3 tick
    # Another program, or another run of the same one, may have the pid by now.
    is_program "$pid" "$name" && [[ $(process_stat "$pid") == *" $started" ]] || return 0
    kill -TERM "$pid"
    for ((tick = 0; tick < 300; tick++)); do
        is_alive "$pid" || {
            say "stopped $name"
            return 0
        }
        ((tick == 150)) && kill -KILL "$pid"
        sleep 0.1
    done
    warn "$name (pid $pid) does not end"
}

# ---- harm to libvirtd -----------------------------------------------------------------------------------------------

libvirtd_pid() {
    local pid=''
    { read -r pid </run/libvirtd.pid; } 2>/dev/null || true
    [[ -n $pid ]] && is_program "$pid" libvirtd && printf '%s' "$pid"
}

# systemd would start it again by itself: at once after its death, and at the next connection to its sockets.
libvirtd_units_do() { systemctl "$1" libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket; }

lab_libvirtd() {
    local action=$1 pid tick
    need_root libvirtd "$action"
    pid=$(libvirtd_pid) || true
    [[ -n $pid || $action == start ]] || die "no libvirtd runs"
    case $action in
    pid) printf '%s\n' "$pid" ;;
    freeze) kill -STOP "$pid" ;;
    continue) kill -CONT "$pid" ;;
    kill | stop)
        if [[ -d /run/systemd/system ]]; then
            [[ $action == stop ]] || kill -KILL "$pid"
            libvirtd_units_do stop
        else
            # Nobody else knows how it was started, and with what.
            started_by_lab "$pid" || die "libvirtd (pid $pid) was not started by the lab, so it is left alone"
            if [[ $action == kill ]]; then kill -KILL "$pid"; else kill -TERM "$pid"; fi
        fi
        for ((tick = 0; tick < 300; tick++)); do
            is_alive "$pid" || return 0
            sleep 0.02
        done
        die "libvirtd (pid $pid) does not end"
        ;;
    start)
        take_lock
        [[ -z $pid ]] || kill -CONT "$pid"
        if [[ -d /run/systemd/system ]]; then
            # It counts starts, and refuses after a few.
            systemctl reset-failed libvirtd.service
            libvirtd_units_do start
            await_libvirtd
        else
            # Each start leaves a line; those of the dead say nothing.
            [[ -n $pid || ! -s $DAEMONS ]] || sed -i '/^process libvirtd /d' "$DAEMONS"
            ensure_libvirtd
        fi
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
}

stop_daemons() {
    [[ -s $DAEMONS ]] || return 0
    local kind what pid started
    # libvirtd before the virtlogd that it uses: the reverse of the order in which they were started.
    while read -r kind what pid started; do
        case $kind in
        process) stop_process "$what" "$pid" "$started" ;;
        unit) systemctl stop "$what" || warn "could not stop $what" ;;
        esac
    done < <(tac "$DAEMONS")
}

started_by_lab() {
    [[ -s $DAEMONS ]] || return 1
    grep -qE "^(process libvirtd $1 $(process_stat "$1" | cut -d' ' -f2)\$|unit libvirtd\.service\$)" "$DAEMONS"
}

# ---- what guests are made of ----------------------------------------------------------------------------------------

# A guest's firmware: it reads sector 0 of the first virtio disk to 0x7c00 and jumps there, and halts if it cannot.
# SeaBIOS takes thousands of exits to do the same, 1.5 s of CPU for each guest where virtualization is nested; this
# takes 27. The disk's counters still show what a real boot shows: one read of 512 bytes.
write_rom() {
    [[ -s $ROM ]] && return
    command -v objcopy >/dev/null || die "as and objcopy are missing: install binutils"
    local work
    work=$(mktemp -d "$STATE/rom.XXXXXX")
    as --32 -o "$work/rom.o" - <<'EOF'
        .code16
        .set    RING, 0x1000            # segment of the disk's queue, physical address 0x10000
        .set    DISK, 0xc000            # I/O port that the disk is told to answer at
start:  cli
        xor     %ax, %ax
        mov     %ax, %ss
        mov     $0x7000, %sp
        mov     $0x80000000, %ebx       # PCI configuration space: bus 0, slot 0
slot:   mov     %ebx, %eax
        call    select
        in      %dx, %eax
        cmp     $0x10011af4, %eax       # a virtio disk that also has the legacy interface?
        je      found
        add     $0x800, %ebx
        cmp     $0x80010000, %ebx
        jb      slot
stop:   hlt
        jmp     stop

select: mov     $0xcf8, %dx             # choose the configuration register in eax,
        out     %eax, %dx
        mov     $0xcfc, %dx             # which is then read and written here
        ret

found:  lea     0x10(%ebx), %eax
        call    select
        mov     $DISK, %eax
        out     %eax, %dx
        lea     0x04(%ebx), %eax
        call    select
        mov     $5, %ax                 # answer I/O ports, and be allowed to write to memory
        out     %ax, %dx

        mov     $RING, %ax              # the queue: descriptors, at 0x1000 what we offer, at 0x2000 what is done
        mov     %ax, %es
        xor     %di, %di
        mov     $(chain - start), %si
        mov     $(end - chain), %cx
        rep movsb %cs:(%si), %es:(%di)
        movw    $1, %es:0x1002

        mov     $DISK + 18, %dx         # status: seen, driver, ready
        mov     $7, %al
        out     %al, %dx
        mov     $DISK + 8, %dx          # page number of the queue
        mov     $(RING >> 8), %eax
        out     %eax, %dx
        mov     $DISK + 16, %dx         # go
        xor     %ax, %ax
        out     %ax, %dx
wait:   pause
        cmpw    $1, %es:0x2002
        jne     wait
        cmpw    $0xaa55, %ss:0x7dfe     # a boot sector?
        jne     stop
        ljmp    $0, $0x7c00

chain:  .quad   0x6000                  # the request; memory is zero, and zeros mean: read sector 0
        .long   16
        .word   1, 1
        .quad   0x7c00                  # the data
        .long   512
        .word   3, 2
        .quad   0x6010                  # the outcome
        .long   1
        .word   2, 0
end:
        .org    0xfff0                  # the processor begins here
        ljmp    $0xf000, $0
        .org    0x10000
EOF
    objcopy --output-target=binary --only-section=.text "$work/rom.o" "$work/rom"
    chmod 644 "$work/rom"
    mv "$work/rom" "$ROM"
    rm -r "$work"
}

# The boot sector of a guest that has something to say on its NIC. Its ring of what it sends names the same frame in
# every place, and that of what it receives the same buffer, so it only ever has to say how far the NIC may go.
write_chatter() {
    [[ -s $CHATTER ]] && return
    command -v objcopy >/dev/null || die "as and objcopy are missing: install binutils"
    local work
    work=$(mktemp -d "$STATE/chatter.XXXXXX")
    as --32 -o "$work/chatter.o" - <<'EOF'
        .code16
        .set    ORIGIN, 0x7c00
        .set    RECEIVE, 0x2000         # segments of the queues: descriptors, at 0x1000 what we offer, at 0x2000 what
        .set    SEND, 0x3000            # is done
        .set    BUFFER, 0x40000         # what is received, each over the last
        .set    AT_ONCE, 8              # frames at each tick
        .set    NIC, 0xc100             # I/O port that the NIC is told to answer at
        .set    CPUS, 0xaf00            # those of ACPI's hot-plug on this machine: of vCPUs,
        .set    DEVICES, 0xae00         # and of PCI
start:  mov     $0x80000000, %ebx       # PCI configuration space: bus 0, slot 0
slot:   mov     %ebx, %eax
        call    select
        in      %dx, %eax
        cmp     $0x10001af4, %eax       # a virtio NIC that also has the legacy interface?
        je      found
        add     $0x800, %ebx
        cmp     $0x80010000, %ebx
        jb      slot
stop:   hlt
        jmp     stop

select: mov     $0xcf8, %dx             # choose the configuration register in eax,
        out     %eax, %dx
        mov     $0xcfc, %dx             # which is then read and written here
        ret

found:  lea     0x10(%ebx), %eax
        call    select
        mov     $NIC, %eax
        out     %eax, %dx
        lea     0x04(%ebx), %eax
        call    select
        mov     $5, %ax                 # answer I/O ports, and be allowed to write to memory
        out     %ax, %dx

        mov     $RECEIVE, %ax           # one buffer of 2 KiB, for the NIC to write to, and no interrupts
        mov     %ax, %fs
        movl    $BUFFER, %fs:0
        movl    $2048, %fs:8
        movw    $2, %fs:12
        movw    $1, %fs:0x1000
        mov     $SEND, %ax
        mov     %ax, %gs
        movl    $(ORIGIN + frame - start), %gs:0
        movl    $(end - frame), %gs:8
        movw    $1, %gs:0x1000
        xor     %ax, %ax
        mov     $(RECEIVE >> 8), %ecx
        call    queue
        inc     %ax
        mov     $(SEND >> 8), %ecx
        call    queue
        mov     $NIC + 18, %dx          # status: seen, driver, ready
        mov     $7, %al
        out     %al, %dx

        xor     %ax, %ax                # the processor's own interrupt controller is closed to the old one until a
        mov     %ax, %ds                # firmware opens it, and lies beyond the first MiB: a segment that reaches there
        lgdtl   ORIGIN + limits - start
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        mov     $8, %cx
        mov     %cx, %es
        and     $0xfe, %al
        mov     %eax, %cr0
        mov     $0xfee00000, %ebx
        movl    $0x1ff, %es:0xf0(%ebx)
        movl    $0x700, %es:0x350(%ebx)
        mov     $0x11, %al              # the timer's interrupt is number 8, acknowledges itself, and is the only one
        out     %al, $0x20
        mov     $8, %al
        out     %al, $0x21
        mov     $4, %al
        out     %al, $0x21
        mov     $3, %al
        out     %al, $0x21
        mov     $0xfe, %al
        out     %al, $0x21
        movl    $(ORIGIN + tick - start), 8 * 4
        mov     $0x34, %al              # as slow as it goes: 18.2 times a second
        out     %al, $0x43
        xor     %al, %al
        out     %al, $0x40
        out     %al, $0x40
        mov     $CPUS, %dx              # vCPUs are asked for in the way of today
        out     %al, %dx

again:  sti
        hlt
        cli
        mov     $NIC + 16, %dx          # what was done, and so many more: never more than a queue holds
        mov     %fs:0x2002, %ax
        add     $128, %ax
        mov     %ax, %fs:0x1002
        xor     %ax, %ax
        out     %ax, %dx
        mov     %gs:0x2002, %ax
        add     $AT_ONCE, %ax
        mov     %ax, %gs:0x1002
        mov     $1, %ax
        out     %ax, %dx
        inc     %cx
        test    $7, %cl
        jnz     again

        mov     $DEVICES + 4, %dx       # the slots that are to be emptied
        in      %dx, %eax
        test    %eax, %eax
        jz      cpus
        mov     $DEVICES + 8, %dx
        out     %eax, %dx
cpus:   mov     $CPUS + 5, %dx          # the next vCPU of which there is news
        xor     %al, %al
        out     %al, %dx
        mov     $CPUS + 4, %dx
        in      %dx, %al
        test    $4, %al                 # to be taken out? Then so be it; else it is seen that it was put in
        mov     $8, %al
        jnz     told
        mov     $2, %al
told:   out     %al, %dx
        jmp     again

queue:  mov     $NIC + 14, %dx          # the queue in ax is at the page in ecx
        out     %ax, %dx
        mov     $NIC + 8, %dx
        xchg    %eax, %ecx
        out     %eax, %dx
        xchg    %eax, %ecx
        ret

tick:   iretw

table:  .quad   0, 0x00cf93000000ffff   # nothing; 4 GiB of data
limits: .word   limits - table - 1
        .long   ORIGIN + table - start

frame:  .zero   10                      # no checksum and no segments are asked of the NIC
        .byte   0xff, 0xff, 0xff, 0xff, 0xff, 0xff
        .byte   0x52, 0x54, 0, 0, 0, 1
        .byte   0x88, 0xb5              # the type that is for experiments; the host drops it
        .zero   46
end:
        .org    510
        .word   0xaa55
EOF
    objcopy --output-target=binary --only-section=.text "$work/chatter.o" "$work/chatter"
    mv "$work/chatter" "$CHATTER"
    rm -r "$work"
}

# Goes on where the ROM ended: with the queue of the disk, and the one request in it.
write_scribbler() {
    [[ -s $SCRIBBLER ]] && return
    local work
    work=$(mktemp -d "$STATE/scribbler.XXXXXX")
    as --32 -o "$work/scribbler.o" - <<'EOF'
        .code16
        .set    RING, 0x1000            # as in the ROM
        .set    DISK, 0xc000
start:  xor     %ax, %ax
        mov     %ax, %ds
        mov     $RING, %ax
        mov     %ax, %es
        movl    $0x7e00, %es:16         # the data, behind this code
        movl    $1, 0x6008              # the sector
again:  rdtsc
        lea     (1 << 27)(%eax), %ebx   # some hundredths of a second
spin:   rdtsc
        sub     %ebx, %eax
        js      spin
        xorl    $1, 0x6000              # read or write
        xorw    $2, %es:28              # by the disk, or from it
        incw    %es:0x1002
        mov     $DISK + 16, %dx
        xor     %ax, %ax
        out     %ax, %dx
wait:   pause
        mov     %es:0x1002, %ax
        cmp     %es:0x2002, %ax
        jne     wait
        jmp     again
        .org    510
        .word   0xaa55
EOF
    objcopy --output-target=binary --only-section=.text "$work/scribbler.o" "$work/scribbler"
    mv "$work/scribbler" "$SCRIBBLER"
    rm -r "$work"
}

# 1 MiB of nothing behind a boot sector of `cli; hlt; jmp -4`: the guest sleeps for good and costs no CPU.
write_template() {
    [[ -s $TEMPLATE ]] && return
    local new
    new=$(mktemp "$STATE/template.XXXXXX")
    printf '\xfa\xf4\xeb\xfc' >"$new"
    printf '\x55\xaa' | dd of="$new" bs=1 seek=510 conv=notrunc status=none
    truncate --size=1M "$new"
    chmod 666 "$new" # QEMU's user depends on the distribution
    mv "$new" "$TEMPLATE"
}

ensure_state() {
    [[ $(uname -m) == x86_64 ]] || die "the guests of the lab are x86-64; this machine is $(uname -m)"
    (umask 022 && mkdir -p "$IMAGES" "$GUESTS")
    write_rom
    write_template
    write_chatter
    write_scribbler
}

make_image() { [[ -e $1 ]] || cp --preserve=mode --sparse=always "$TEMPLATE" "$1"; }

xml_escape() {
    case $1 in
    *[\&\<\>\"\']* | *$'\r'*)
        printf '%s' "$1" |
            sed -e 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g; s/"/\&quot;/g' -e "s/'/\\&apos;/g; s/\\r/\\&#13;/g"
        ;;
    *) printf '%s' "$1" ;;
    esac
}

kvm_opens() { { : <>/dev/kvm; } 2>/dev/null; }

# The domain type. A running lab keeps the one it has.
accelerator() {
    if [[ -s $ACCEL ]]; then
        cat "$ACCEL"
        return
    fi
    case ${VIRTSTATD_LAB_ACCEL:-} in
    kvm) echo kvm ;;
    tcg) echo qemu ;;
    '') if kvm_opens; then echo kvm; else echo qemu; fi ;;
    *) die "VIRTSTATD_LAB_ACCEL is '$VIRTSTATD_LAB_ACCEL'; it must be kvm or tcg" ;;
    esac
}

accelerator_name() { if [[ $(accelerator) == kvm ]]; then echo KVM; else echo TCG; fi; }

take_count() {
    local option=$1 value=$2 lowest=$3 highest=$4
    if ! [[ $value =~ ^[0-9]{1,4}$ ]] || ((10#$value < lowest || 10#$value > highest)); then
        die "$option takes a number from $lowest to $highest, not '$value'"
    fi
    printf '%d' "$((10#$value))"
}

# Prints the XML. Leaves the guest's files in a directory that is named after a hash, since a name may hold anything.
domain_xml() {
    local name=$1 disks=1 nics=1 vcpus=1 maximum=0 iothreads=0 balloon=none does=nothing
    local uuid='' title='' description='' metadata=''
    shift
    while (($#)); do
        [[ $1 == --@(balloon|busy|chatter|scribbler) || $# -ge 2 ]] || die "xml: unknown option or missing value: $1"
        case $1 in
        --disks) disks=$(take_count "$1" "$2" 0 26) ;;
        --nics) nics=$(take_count "$1" "$2" 0 99) ;;
        --vcpus) vcpus=$(take_count "$1" "$2" 1 255) ;;
        --vcpus-maximum) maximum=$(take_count "$1" "$2" 1 255) ;;
        --iothreads) iothreads=$(take_count "$1" "$2" 0 64) ;;
        --uuid) uuid=$2 ;;
        --title) title=$2 ;;
        --description) description=$2 ;;
        --metadata) metadata=$2 ;;
        --balloon)
            balloon=virtio
            set -- "$1" "$@" # takes no value, and two words are shifted away
            ;;
        --busy | --chatter | --scribbler)
            [[ $does == nothing ]] || die "xml: a guest does one thing: --busy, --chatter or --scribbler"
            does=${1#--}
            set -- "$1" "$@"
            ;;
        *) die "xml: unknown option: $1" ;;
        esac
        shift 2
    done
    ((maximum == 0 || maximum >= vcpus)) || die "xml: more --vcpus than --vcpus-maximum"

    local hash dir tap i letters=abcdefghijklmnopqrstuvwxyz
    hash=$(printf '%s' "$name" | sha256sum)
    hash=${hash%% *}
    dir=$GUESTS/${hash:0:16}
    [[ -d $dir ]] || mkdir -p "$dir"
    printf '%s' "$name" >"$dir/name"
    : >"$dir/taps"
    uuid=${uuid:-${hash:0:8}-${hash:8:4}-5${hash:13:3}-a${hash:17:3}-${hash:20:12}}
    # The kernel takes 15 characters for a network device, and not all of them.
    tap=lab${hash:0:8}
    [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9_.-]{0,10}$ ]] && tap=$name

    printf "<domain type='%s'>\n" "$(accelerator)"
    printf '  <name>%s</name>\n' "$(xml_escape "$name")"
    printf '  <uuid>%s</uuid>\n' "$uuid"
    [[ -z $title ]] || printf '  <title>%s</title>\n' "$(xml_escape "$title")"
    [[ -z $description ]] || printf '  <description>%s</description>\n' "$(xml_escape "$description")"
    [[ -z $metadata ]] || printf '  <metadata>%s</metadata>\n' "$metadata"
    printf "  <vcpu current='%d'>%d</vcpu>\n" "$vcpus" $((maximum ? maximum : vcpus))
    ((iothreads == 0)) || printf '  <iothreads>%d</iothreads>\n' "$iothreads"
    cat <<EOF
  <memory unit='MiB'>16</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <loader readonly='yes' type='rom'>$ROM</loader>
  </os>
  <features><acpi/></features>
  <devices>
    <controller type='usb' model='none'/>
EOF
    for ((i = 0; i < disks; i++)); do
        make_image "$dir/disk-$i.img"
        case $does in
        busy) printf '\xeb\xfe' | dd of="$dir/disk-$i.img" conv=notrunc status=none ;; # jmp to itself
        chatter) dd if="$CHATTER" of="$dir/disk-$i.img" conv=notrunc status=none ;;
        scribbler) dd if="$SCRIBBLER" of="$dir/disk-$i.img" conv=notrunc status=none ;;
        esac
        cat <<EOF
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'$( ((iothreads == 0)) || printf " iothread='%d'" $((i % iothreads + 1)))/>
      <source file='$dir/disk-$i.img'/>
      <target dev='vd${letters:i:1}' bus='virtio'/>
    </disk>
EOF
    done
    for ((i = 0; i < nics; i++)); do
        printf '%s\n' "$tap-n$i" >>"$dir/taps"
        cat <<EOF
    <interface type='ethernet'>
      <mac address='52:${hash:0:2}:${hash:2:2}:${hash:4:2}:${hash:6:2}:$(printf %02x "$i")'/>
      <target dev='$tap-n$i'/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>
EOF
    done
    if [[ $balloon == virtio ]]; then
        echo "    <memballoon model='virtio'><stats period='2'/></memballoon>"
    else
        echo "    <memballoon model='none'/>"
    fi
    printf '  </devices>\n</domain>\n'
}

# ---- commands -------------------------------------------------------------------------------------------------------

lab_up() {
    local wanted begin
    wanted=$(take_count 'up' "${1:-20}" 1 999)
    begin=$(now_us)
    need_root up "$wanted"
    command -v virsh >/dev/null || die "virsh is missing: run scripts/install-deps.sh lab"
    take_lock
    ensure_state
    open_kvm
    ensure_libvirtd

    local -A running=()
    local pid name missing=() i
    while read -r pid name; do running[$name]=$pid; done < <(lab_guests)
    ((${#running[@]})) || rm -f "$ACCEL"
    if [[ ! -s $ACCEL ]]; then
        local type
        type=$(accelerator)
        # Also fills libvirtd's memory of what this QEMU can do, which takes seconds, before guests need it in parallel.
        if [[ $type == kvm ]] && ! vsh domcapabilities --virttype kvm >/dev/null 2>&1; then
            warn "/dev/kvm is there, but libvirtd cannot use it"
            type=qemu
        fi
        printf '%s\n' "$type" >"$ACCEL"
    fi
    for ((i = 1; i <= wanted; i++)); do
        printf -v name 'lab-%03d' "$i"
        [[ -n ${running[$name]:-} ]] || missing+=("$name")
    done

    if ((${#missing[@]})); then
        say "guests to start: ${#missing[@]}, with $(accelerator_name)"
        start_guests "${missing[@]}"
    fi
    local beyond=0
    for name in "${!running[@]}"; do
        [[ $name =~ ^lab-[0-9]{3}$ ]] && ((10#${name#lab-} > wanted)) && ((++beyond))
    done
    ((beyond == 0)) || say "left running beyond the $wanted asked for: $beyond"
    say "$wanted up with $(accelerator_name), of these started now: ${#missing[@]}, $(seconds_since "$begin") s"
}

start_guests() {
    local lanes lane begin name i=0 work commands=() pids=()
    begin=$(now_us)
    # Starting one is partly work for a processor, partly waiting: twice the processors keeps them busy. libvirtd
    # serves calls with 20 threads, of which some should stay free for others.
    lanes=$(($(nproc) * 2))
    lanes=$((lanes < 2 ? 2 : lanes > 8 ? 8 : lanes))
    work=$(mktemp -d "$STATE/up.XXXXXX")
    trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
    for name; do
        domain_xml "$name" >"$work/$name.xml"
        lane=$((i++ % lanes))
        commands[lane]+="create '$work/$name.xml';"
    done
    for lane in "${!commands[@]}"; do
        # One virsh for all of a lane: a virsh and a connection for each guest would cost as much as virsh's whole part.
        virsh --quiet --connect "$URI" "${commands[lane]}" >"$work/$lane.out" 2>"$work/$lane.err" &
        pids+=($!)
    done
    local up reported=0
    while jobs -pr | grep -q .; do
        sleep 0.5
        up=$(cat "$work"/*.out | grep -c created || true)
        if ((up > reported && $(now_us) - begin > 1500000)); then
            say "$up of $# up, $(seconds_since "$begin") s"
            reported=$up
        fi
    done
    local failed=0
    for lane in "${!pids[@]}"; do wait "${pids[lane]}" || failed=1; done
    trap - EXIT
    cat "$work"/*.err >&2
    rm -r "$work"
    ((failed == 0)) || die "some guests did not start"
}

lab_thaw() {
    local pid stat thawed=0
    while read -r pid; do
        stat=$(process_stat "$pid") || continue
        [[ $stat == T* ]] || continue
        kill -CONT "$pid" 2>/dev/null && ((++thawed))
    done < <(lab_pids)
    say "thawed: $thawed"
}

lab_down() {
    need_root down
    take_lock
    local begin answers=0
    local -A ended=()
    begin=$(now_us)
    kill_guests
    if libvirtd_answers; then
        answers=1
        wait_for_cleanup
        undefine_guests
    fi
    remove_leftovers

    local foreign=0
    [[ -s $DAEMONS ]] && foreign=$(pgrep --count --full '^[^ ]*qemu[^ ]* -name guest=' || true)
    if ((foreign)); then
        warn "guests that are not the lab's run here ($foreign): libvirtd, started by the lab, is left to them"
        find "$STATE" -mindepth 1 -maxdepth 1 ! -name daemons ! -name libvirtd.conf -exec rm -rf {} +
    else
        stop_daemons
        # An `up` that was interrupted may have had a request on its way, which libvirtd finished in the meantime.
        kill_guests
        rm -rf "$STATE"
    fi
    ((answers || ${#ended[@]} == 0)) || warn "libvirtd did not answer; it will clean up after its guests when it does"
    say "down, guests ended: ${#ended[@]}, $(seconds_since "$begin") s"
}

# libvirt's own destroy asks QEMU to end, sleeps, and looks again: 2 s for each guest, one at a time for each caller.
# libvirtd notices the death of a QEMU by itself and cleans up after it, so it is enough to kill them all. SIGKILL
# ends a frozen one too; SIGCONT comes first for the sake of calls that wait for its answer.
kill_guests() {
    local pid
    for pid in $(lab_pids); do
        kill -CONT "$pid" 2>/dev/null || continue
        kill -KILL "$pid" 2>/dev/null && ended[$pid]=1
    done
}

wait_for_cleanup() {
    local tick
    for ((tick = 0; tick < 1200; tick++)); do
        kill_guests
        # libvirtd keeps a file for every active guest, and removes it as a last step.
        grep -qsF ">$ROM<" "$RUN_DIR"/*.xml || return 0
        sleep 0.1
    done
    warn "libvirtd still holds guests whose QEMU has ended, see: virsh list"
}

undefine_guests() {
    local id
    for id in $(vsh list --inactive --uuid || true); do
        if vsh dumpxml --inactive "$id" 2>/dev/null | grep -qF ">$ROM<"; then
            vsh undefine --managed-save --snapshots-metadata "$id" >/dev/null || warn "could not undefine $id"
        fi
    done
}

# Taps end with their QEMU and libvirtd removes its own files; this is for what a crash of either left behind.
remove_leftovers() {
    local dir name tap
    for dir in "$GUESTS"/*/; do
        [[ -e $dir/name ]] || continue
        while read -r tap; do
            [[ -e /sys/class/net/$tap ]] && ip link delete "$tap"
        done <"$dir/taps"
        name=$(<"$dir/name")
        [[ -z $name || $name == */* ]] || rm -f "$LOG_DIR/$name.log" "$LOG_DIR/$name.log".[0-9]
    done
}

lab_status() {
    local pid name stat frozen=0 count=0 lines=''
    while read -r pid name; do
        stat=$(process_stat "$pid") || continue
        ((++count))
        if [[ $stat == T* ]]; then
            stat=frozen
            ((++frozen))
        else
            stat=running
        fi
        printf -v lines '%s  %-24s pid %-8s %s\n' "$lines" "$name" "$pid" "$stat"
    done < <(lab_guests)
    say "guests: $count, frozen: $frozen$( ((count == 0)) || printf ', with %s' "$(accelerator_name)")"
    printf '%s' "$lines"

    pid=$(cat /run/libvirtd.pid 2>/dev/null || true)
    if [[ -z $pid ]] || ! is_program "$pid" libvirtd; then
        say "no libvirtd runs"
    elif started_by_lab "$pid"; then
        say "libvirtd has pid $pid and was started by the lab"
    else
        say "libvirtd has pid $pid and was not started by the lab"
    fi
}

lab_disk() {
    local id=$1 path
    case $id in
    "$IMAGES"/*) path=$id ;;
    */* | '' | .*) die "disk takes a word, or a path below $IMAGES" ;;
    *) path=$IMAGES/$id.img ;;
    esac
    [[ /$path/ != */../* ]] || die "disk takes a word, or a path below $IMAGES"
    ensure_state
    (umask 022 && mkdir -p "${path%/*}")
    make_image "$path"
    printf '%s\n' "$path"
}

main() {
    local command=${1:-}
    (($# == 0)) || shift
    case $command in
    up)
        (($# <= 1)) || die "up takes one number"
        lab_up "$@"
        ;;
    down) lab_down ;;
    thaw)
        need_root thaw
        lab_thaw
        ;;
    status) lab_status ;;
    xml)
        [[ -n ${1:-} ]] || die "xml takes the guest's name"
        need_root xml
        ensure_state
        domain_xml "$@"
        ;;
    libvirtd)
        (($# == 1)) || die "libvirtd takes one action"
        lab_libvirtd "$1"
        ;;
    disk)
        (($# == 1)) || die "disk takes one word"
        need_root disk
        lab_disk "$1"
        ;;
    -h | --help | help) usage ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
}

main "$@"
