//! CPU time, and how much of it a VM may use.

use super::super::PERCENT;
use super::super::table::{Field, Json};
use super::{Guest, Pair, Vm};
use crate::model::{CpuSample, Group};

/// The kernel's period of a limit on CPU time, in microseconds, where none is set.
const USUAL_PERIOD: u64 = 100_000;

pub(super) static FIELDS: &[Field<Vm>] = &[
    Field::string(
        "cpuUser",
        "% of one host CPU",
        "`cpu.time` that is neither `cpu.user` nor `cpu.system`, between the two newest samples, not below 0. Where all three are of \
         one cgroup it is always 0.00, in VDSM too. Left out without two samples, or if a counter went back.",
        |vm, slot| {
            let cpu = pair(vm)?;
            let (user, system) = (cpu.rate(|cpu| cpu.user_ns)?, cpu.rate(|cpu| cpu.system_ns)?);
            slot.fixed((PERCENT * (cpu.rate(|cpu| cpu.time_ns)? - user - system)).max(0.0))
        },
    ),
    Field::string(
        "cpuSys",
        "% of one host CPU",
        "`cpu.user` and `cpu.system` together, between the two newest samples; 200 is possible. Left out \
         without two samples, or if a counter went back.",
        |vm, slot| {
            let cpu = pair(vm)?;
            slot.fixed(PERCENT * (cpu.rate(|cpu| cpu.user_ns)? + cpu.rate(|cpu| cpu.system_ns)?))
        },
    ),
    Field::string(
        "cpuUsage",
        "ns since the start",
        "`cpu.user` and `cpu.system` together, of the newest sample.",
        |vm, slot| {
            let cpu = pair(vm)?.newest.figures;
            slot.quoted(cpu.user_ns?.checked_add(cpu.system_ns?)?)
        },
    ),
    Field::new("cpuActual", Json::Boolean, "", "Are cpuUser and cpuSys both there?", |vm, slot| {
        let known = |cpu: &Pair<'_, CpuSample>| {
            let rates = [cpu.rate(|cpu| cpu.time_ns), cpu.rate(|cpu| cpu.user_ns), cpu.rate(|cpu| cpu.system_ns)];
            rates.iter().all(Option::is_some)
        };
        slot.boolean(pair(vm).as_ref().is_some_and(known))
    }),
    Field::string("vcpuCount", "", "`vcpu.current`.", |vm, slot| {
        slot.quoted(vm.pair(&vm.domain.windows.vcpu, Group::Vcpu)?.newest.figures.current?)
    }),
    Field::string(
        "vcpuQuota",
        "µs a period; \"-1\": no limit",
        "`<cputune><quota>` of the running domain's XML, which is read again when it changes.",
        |vm, slot| {
            let quota = vm.xml?.vcpu_quota_us.filter(|quota| *quota > 0);
            slot.quoted(quota.unwrap_or(-1))
        },
    ),
    Field::new(
        "vcpuPeriod",
        Json::Number,
        "µs",
        "`<cputune><period>`; the kernel's own, 100000, where none is set.",
        |vm, slot| slot.number(vm.xml?.vcpu_period_us.filter(|period| *period > 0).unwrap_or(USUAL_PERIOD)),
    ),
    Field::string("vcpuUserLimit", "%", "`vcpuLimit` in oVirt's metadata. Left out without.", |vm, slot| {
        slot.text(vm.xml?.ovirt.as_ref()?.vcpu_limit.as_deref()?)
    }),
];

fn pair<'a>(vm: &Guest<'a>) -> Option<Pair<'a, CpuSample>> {
    vm.pair(&vm.domain.windows.cpu, Group::Cpu)
}
