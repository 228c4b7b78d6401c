//! Counters that cannot go down while a domain runs, and what to make of a sample in which they did.
//!
//! libvirt reads CPU time from the guest's cgroup, to the microsecond. For some moments after its own start it does not know
//! the cgroup yet, and reads /proc instead: in clock ticks, and without what the kernel does for the guest in other threads.
//! Of a vCPU whose thread is gone, since QEMU ends, it tells zeros. A counter that goes down reads as one that began anew,
//! and `rate()` would then add all that it ever counted.

use super::{CpuSample, Vcpu, VcpuSample};

/// What reading by ticks of a hundredth of a second cuts off, of user and of system time.
pub const TWO_TICKS_NS: u64 = 20_000_000;

impl CpuSample {
    /// This sample, after an earlier one of the same run. What is less by so little that only the source can be another
    /// stays as it was; `None` if a counter is less than that.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Option<Self> {
        Some(Self {
            time_ns: held(self.time_ns, earlier.time_ns)?,
            user_ns: held(self.user_ns, earlier.user_ns)?,
            system_ns: held(self.system_ns, earlier.system_ns)?,
        })
    }
}

impl VcpuSample {
    /// This sample, after an earlier one of the same run. What is less by ticks alone stays as it was, as above: libvirt reads
    /// the time of vCPUs in ticks, and the kernel lane to the nanosecond. `None` if a counter of a vCPU is less than that.
    #[must_use]
    pub fn after(mut self, earlier: &Self) -> Option<Self> {
        for vcpu in &mut self.vcpus {
            let Some(older) = earlier.vcpus.iter().find(|older| older.index == vcpu.index) else { continue };
            *vcpu = Vcpu {
                time_ns: held(vcpu.time_ns, older.time_ns)?,
                wait_ns: held(vcpu.wait_ns, older.wait_ns)?,
                delay_ns: held(vcpu.delay_ns, older.delay_ns)?,
                ..*vcpu
            };
        }
        Some(self)
    }
}

/// The newer value, or the earlier one where the newer is hardly less.
fn held(newer: Option<u64>, earlier: Option<u64>) -> Option<Option<u64>> {
    match (newer, earlier) {
        (Some(newer), Some(earlier)) if newer < earlier => (earlier - newer < TWO_TICKS_NS).then_some(Some(earlier)),
        _ => Some(newer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(time_ns: Option<u64>, user_ns: Option<u64>) -> CpuSample {
        CpuSample { time_ns, user_ns, system_ns: Some(5) }
    }

    #[test]
    fn cpu_time_stands_still_rather_than_go_back_by_ticks_and_is_not_believed_if_it_goes_back_by_more() {
        let (earlier, tick) = (cpu(Some(498_086_000), Some(200_000_000)), 10_000_000);
        for (newer, expected) in [
            (cpu(Some(498_086_001), Some(200_000_000)), Some(cpu(Some(498_086_001), Some(200_000_000)))),
            (cpu(Some(490_000_000), Some(200_000_000)), Some(earlier)),
            (cpu(Some(500_000_000), Some(190_000_000)), Some(cpu(Some(500_000_000), Some(200_000_000)))),
            (cpu(Some(498_086_000 - 2 * tick), Some(200_000_000)), None),
            (cpu(Some(600_000_000), Some(0)), None),
            (cpu(None, Some(200_000_000)), Some(cpu(None, Some(200_000_000)))),
        ] {
            assert_eq!(newer.after(&earlier), expected, "{newer:?}");
        }
        assert_eq!(earlier.after(&cpu(None, None)), Some(earlier));
    }

    #[test]
    fn a_sample_of_vcpus_of_which_one_went_back_by_more_than_ticks_is_not_believed() {
        let vcpu = |index, time_ms: u64, delay_ms: u64| Vcpu {
            index,
            time_ns: Some(time_ms * 1_000_000),
            delay_ns: Some(delay_ms * 1_000_000),
            ..Vcpu::default()
        };
        let sample = |vcpus: &[Vcpu]| VcpuSample { vcpus: vcpus.to_vec(), ..VcpuSample::default() };
        let earlier = sample(&[vcpu(0, 100, 70), vcpu(2, 100, 70)]);
        for (newer, expected) in [
            (sample(&[vcpu(0, 100, 70), vcpu(2, 110, 70)]), Some(sample(&[vcpu(0, 100, 70), vcpu(2, 110, 70)]))),
            (sample(&[vcpu(0, 90, 70)]), Some(sample(&[vcpu(0, 100, 70)]))),
            (sample(&[vcpu(0, 100, 70), vcpu(1, 0, 0)]), Some(sample(&[vcpu(0, 100, 70), vcpu(1, 0, 0)]))),
            (sample(&[vcpu(0, 100, 70), vcpu(2, 80, 70)]), None),
            (sample(&[vcpu(0, 0, 0)]), None),
            (sample(&[vcpu(0, 200, 40)]), None),
            (sample(&[Vcpu::default()]), Some(sample(&[Vcpu::default()]))),
        ] {
            assert_eq!(newer.clone().after(&earlier), expected, "{newer:?}");
        }
    }
}
