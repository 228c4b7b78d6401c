//! Counters that cannot go down while a domain runs, and what to make of a sample in which they did.
//!
//! libvirt reads CPU time from the guest's cgroup, to the microsecond. For some moments after its own start it does not know
//! the cgroup yet, and reads /proc instead: in clock ticks, and without what the kernel does for the guest in other threads.
//! Of a vCPU whose thread is gone, since QEMU ends, it tells zeros. A counter that goes down reads as one that began anew,
//! and `rate()` would then add all that it ever counted.

use super::{CpuSample, Vcpu, VcpuSample};

/// What reading by ticks of a hundredth of a second cuts off, of user and of system time.
const TWO_TICKS_NS: u64 = 20_000_000;

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
    /// This sample, after an earlier one of the same run; `None` if a counter of a vCPU went down.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Option<Self> {
        let less =
            |newer: Option<u64>, older: Option<u64>| newer.zip(older).is_some_and(|(newer, older)| newer < older);
        let went_back = |newer: &Vcpu, older: &Vcpu| {
            less(newer.time_ns, older.time_ns)
                || less(newer.wait_ns, older.wait_ns)
                || less(newer.delay_ns, older.delay_ns)
        };
        let before = |index: u32| earlier.vcpus.iter().find(|vcpu| vcpu.index == index);
        let any = self.vcpus.iter().any(|vcpu| before(vcpu.index).is_some_and(|older| went_back(vcpu, older)));
        (!any).then_some(self)
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
    fn a_sample_of_vcpus_of_which_one_went_back_is_not_believed() {
        let vcpu = |index, time_ns, delay_ns| Vcpu {
            index,
            time_ns: Some(time_ns),
            delay_ns: Some(delay_ns),
            ..Vcpu::default()
        };
        let sample = |vcpus: &[Vcpu]| VcpuSample { vcpus: vcpus.to_vec(), ..VcpuSample::default() };
        let earlier = sample(&[vcpu(0, 10, 7), vcpu(2, 10, 7)]);
        for (newer, believed) in [
            (sample(&[vcpu(0, 10, 7), vcpu(2, 11, 7)]), true),
            (sample(&[vcpu(0, 10, 7)]), true),
            (sample(&[vcpu(0, 10, 7), vcpu(1, 0, 0)]), true),
            (sample(&[vcpu(0, 10, 7), vcpu(2, 9, 7)]), false),
            (sample(&[vcpu(0, 0, 0)]), false),
            (sample(&[vcpu(0, 20, 6)]), false),
            (sample(&[Vcpu::default()]), true),
        ] {
            assert_eq!(newer.clone().after(&earlier).is_some(), believed, "{newer:?}");
        }
    }
}
