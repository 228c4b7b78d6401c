//! The time of CPUs, and which part of it went where.

/// Where the time of a CPU went since boot, in nanoseconds. The time of guests is part of `user` and `nice` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The names are the kernel's, of proc_stat(5).
pub struct CpuTimes {
    pub user_ns: Option<u64>,
    pub nice_ns: Option<u64>,
    pub system_ns: Option<u64>,
    pub idle_ns: Option<u64>,
    pub iowait_ns: Option<u64>,
    pub irq_ns: Option<u64>,
    pub softirq_ns: Option<u64>,
    pub steal_ns: Option<u64>,
    pub guest_ns: Option<u64>,
    pub guest_nice_ns: Option<u64>,
}

impl CpuTimes {
    /// Each kind of time but the guests', which is part of others, by the kernel's name.
    #[must_use]
    pub fn modes(&self) -> [(&'static str, Option<u64>); 8] {
        [
            ("user", self.user_ns),
            ("nice", self.nice_ns),
            ("system", self.system_ns),
            ("idle", self.idle_ns),
            ("iowait", self.iowait_ns),
            ("irq", self.irq_ns),
            ("softirq", self.softirq_ns),
            ("steal", self.steal_ns),
        ]
    }

    /// Where the time since an earlier sample went; `None` if none passed, or if any kind of it went back: then none of the
    /// others can be trusted.
    #[must_use]
    pub fn shares_since(&self, earlier: &Self) -> Option<CpuShares> {
        let grown = |newest: Option<u64>, earlier: Option<u64>| match (newest, earlier) {
            (Some(newest), Some(earlier)) => newest.checked_sub(earlier).map(Some),
            _ => Some(None),
        };
        let mut all = 0_u64;
        for ((_, newest), (_, earlier)) in self.modes().into_iter().zip(earlier.modes()) {
            all = all.checked_add(grown(newest, earlier)?.unwrap_or_default())?;
        }
        if all == 0 {
            return None;
        }
        // Differences between two samples stay far below 2^53, where f64 is exact.
        #[allow(clippy::cast_precision_loss)]
        let share = |part: u64| part as f64 / all as f64;
        let of = |mode: fn(&Self) -> Option<u64>| grown(mode(self), mode(earlier)).flatten();
        let idle = of(|times| times.idle_ns)? + of(|times| times.iowait_ns).unwrap_or_default();
        let guests = of(|times| times.guest_ns).map(|own| own + of(|times| times.guest_nice_ns).unwrap_or_default());
        Some(CpuShares {
            busy: share(all - idle),
            user: of(|times| times.user_ns).map(share),
            system: of(|times| times.system_ns).map(share),
            iowait: of(|times| times.iowait_ns).map(share),
            steal: of(|times| times.steal_ns).map(share),
            guest: guests.map(share),
        })
    }

    /// Both together; a kind of time that one of them lacks is lacking.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let sum = |of: fn(&Self) -> Option<u64>| of(self)?.checked_add(of(other)?);
        Self {
            user_ns: sum(|times| times.user_ns),
            nice_ns: sum(|times| times.nice_ns),
            system_ns: sum(|times| times.system_ns),
            idle_ns: sum(|times| times.idle_ns),
            iowait_ns: sum(|times| times.iowait_ns),
            irq_ns: sum(|times| times.irq_ns),
            softirq_ns: sum(|times| times.softirq_ns),
            steal_ns: sum(|times| times.steal_ns),
            guest_ns: sum(|times| times.guest_ns),
            guest_nice_ns: sum(|times| times.guest_nice_ns),
        }
    }
}

/// Which parts of the time between two samples went where, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuShares {
    /// All but idle and iowait.
    pub busy: f64,
    /// User mode, most of the guests' time included.
    pub user: Option<f64>,
    /// Kernel mode.
    pub system: Option<f64>,
    /// Idle while a disk is waited for.
    pub iowait: Option<f64>,
    /// Taken by a hypervisor below this host.
    pub steal: Option<f64>,
    /// In guests; part of user and nice.
    pub guest: Option<f64>,
}

/// One CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCpu {
    /// Its number.
    pub cpu: u32,
    /// Its time.
    pub times: CpuTimes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(user: u64, idle: u64, iowait: u64, steal: u64, guest: u64) -> CpuTimes {
        CpuTimes {
            user_ns: Some(user),
            idle_ns: Some(idle),
            iowait_ns: Some(iowait),
            steal_ns: Some(steal),
            guest_ns: Some(guest),
            ..CpuTimes::default()
        }
    }

    #[test]
    fn shares_are_of_the_time_that_passed_and_guests_are_not_counted_twice() {
        let (earlier, newest) = (times(100, 1000, 10, 5, 50), times(130, 1060, 15, 10, 70));
        let shares = newest.shares_since(&earlier).expect("time passed");
        // 30 user, 60 idle, 5 iowait and 5 steal are 100.
        assert_eq!((shares.busy, shares.user, shares.iowait, shares.steal), (0.35, Some(0.3), Some(0.05), Some(0.05)));
        assert_eq!((shares.guest, shares.system), (Some(0.2), None));
    }

    #[test]
    fn a_counter_that_went_back_or_a_time_that_stood_still_gives_no_shares() {
        let earlier = times(100, 1000, 10, 5, 50);
        assert_eq!(earlier.shares_since(&earlier), None);
        assert_eq!(times(200, 1100, 9, 5, 50).shares_since(&earlier), None, "iowait went back");
        let none = CpuTimes::default();
        assert_eq!((none.shares_since(&earlier), earlier.shares_since(&none)), (None, None));
    }

    #[test]
    fn a_sum_lacks_what_a_part_lacks() {
        let sum = times(1, 2, 3, 4, 5).plus(&CpuTimes { steal_ns: None, ..times(10, 20, 30, 0, 50) });
        assert_eq!((sum.user_ns, sum.guest_ns, sum.steal_ns, sum.irq_ns), (Some(11), Some(55), None, None));
    }
}
