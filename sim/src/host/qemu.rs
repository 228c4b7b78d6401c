//! QEMU's own statistics of vCPUs and of the VM, which libvirt passes on: those of QEMU 7.2 on Linux 6.

/// A figure that grows with what a vCPU computes, and with time.
pub(super) struct Growth {
    pub(super) name: &'static str,
    /// For each second that it computed.
    busy: f64,
    /// For each second that passed.
    time: f64,
}

impl Growth {
    pub(super) fn at(&self, busy: f64, seconds: f64) -> u64 {
        (self.busy * busy + self.time * seconds) as u64
    }
}

const fn row(name: &'static str, busy: f64, time: f64) -> Growth {
    Growth { name, busy, time }
}

/// A vCPU waits whenever it does not compute, so less for each second that it does.
const WAITS: f64 = 0.97e9;

/// Halt polling; libvirt adds it up over the vCPUs for `cpu.haltpoll.*` too.
pub(super) const POLL_SUCCESS: Growth = row("halt_poll_success_ns.sum", 9e6, 2e5);
pub(super) const POLL_FAIL: Growth = row("halt_poll_fail_ns.sum", 4e6, 1.5e6);

/// Of each vCPU; what is not counters is in [`VCPU_BLOCKING`] and [`VCPU_GUEST_MODE`].
pub(super) static VCPU: [Growth; 42] = [
    row("l1d_flush.sum", 0.0, 0.0),
    row("insn_emulation_fail.sum", 0.0, 0.0),
    row("pf_park_timeouts.sum", 0.0, 0.0),
    row("nmi_injections.sum", 0.0, 0.0),
    row("signal_exits.sum", 2.0, 0.02),
    row("insn_emulation.sum", 1100.0, 4.0),
    row("pf_parked.sum", 0.0, 0.0),
    row("preemption_reported.sum", 60.0, 0.5),
    row("hypercalls.sum", 15.0, 0.1),
    row("pf_mmio_spte_created.sum", 0.01, 0.0),
    row("halt_exits.sum", 1200.0, 60.0),
    row("request_irq_exits.sum", 0.0, 0.0),
    row("irq_window_exits.sum", 300.0, 1.0),
    POLL_SUCCESS,
    row("nmi_window_exits.sum", 0.0, 0.0),
    row("pf_spurious.sum", 0.5, 0.0),
    row("preemption_other.sum", 25.0, 0.2),
    row("exits.sum", 12_000.0, 95.0),
    row("nested_run.sum", 0.0, 0.0),
    row("halt_wakeup.sum", 700.0, 50.0),
    row("pf_emulate.sum", 0.2, 0.0),
    POLL_FAIL,
    row("halt_successful_poll.sum", 450.0, 8.0),
    row("pf_fixed.sum", 38.0, 0.1),
    row("halt_attempted_poll.sum", 500.0, 30.0),
    row("halt_wait_ns.sum", -WAITS, WAITS),
    row("irq_exits.sum", 600.0, 20.0),
    row("pf_guest.sum", 0.0, 0.0),
    row("invlpg.sum", 0.0, 0.0),
    row("mmio_exits.sum", 200.0, 0.5),
    row("io_exits.sum", 900.0, 2.0),
    row("halt_poll_invalid.sum", 5.0, 0.1),
    row("host_state_reload.sum", 3500.0, 70.0),
    row("pf_fast.sum", 1.0, 0.0),
    row("notify_window_exits.sum", 0.0, 0.0),
    row("irq_injections.sum", 1500.0, 50.0),
    row("directed_yield_successful.sum", 4.0, 0.0),
    row("directed_yield_attempted.sum", 8.0, 0.0),
    row("req_event.sum", 4000.0, 65.0),
    row("fpu_reload.sum", 2500.0, 60.0),
    row("tlb_flush.sum", 120.0, 1.0),
    row("pf_taken.sum", 40.0, 0.1),
];

/// Does it wait for an interrupt?
pub(super) const VCPU_BLOCKING: &str = "blocking.cur";

/// Does it run a guest of its own? None here does.
pub(super) const VCPU_GUEST_MODE: &str = "guest_mode.cur";

/// Of the VM, by what all its vCPUs computed.
pub(super) static VM: [Growth; 11] = [
    row("vm.mmu_pte_write.sum", 0.0, 0.0),
    row("vm.remote_tlb_flush_requests.sum", 9.0, 0.05),
    row("vm.mmu_flooded.sum", 0.0, 0.0),
    row("vm.mmu_pde_zapped.sum", 0.0, 0.0),
    row("vm.mmu_kicks_spared.sum", 0.0, 0.0),
    row("vm.mmu_recycled.sum", 0.0, 0.0),
    row("vm.remote_tlb_flush.sum", 8.0, 0.04),
    row("vm.mmu_cache_miss.sum", 0.6, 0.001),
    row("vm.mmu_shadow_zapped.sum", 0.4, 0.001),
    row("vm.max_mmu_rmap_size.max", 0.0, 0.0),
    row("vm.max_mmu_page_hash_collisions.max", 0.0, 0.0),
];
