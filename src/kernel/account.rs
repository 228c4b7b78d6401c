//! A guest's CPU time and I/O, as its cgroup accounts for them.

use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;

use crate::model::{CpuSample, KernelIo};

use super::cgroup::Own;
use super::files::{File, Place, Reader, is_gone};
use super::parse::{fields, lines, number, value};

/// libvirt gives each run a group of another name, so what is opened by path is the guest's as long as the process is there.
const CGROUPS: Place<'_> = Place { directory: CWD, may_hold: true };

/// A file with its path.
#[derive(Debug)]
struct Account {
    path: PathBuf,
    file: File,
}

impl Account {
    /// If the hierarchy accounts for this.
    fn at(directory: &Path, name: &str) -> Option<Self> {
        let path = directory.join(name);
        path.exists().then(|| Self { path, file: File::default() })
    }

    fn read<'b>(&mut self, reader: &'b mut Reader) -> Result<&'b [u8], Errno> {
        self.file.read(reader, CGROUPS, format_args!("{}", self.path.display()))
    }
}

#[derive(Debug)]
enum Cpu {
    /// Version 2: `cpu.stat`, there without the cpu controller too.
    Unified(Account),
    /// Version 1: `cpuacct.usage` and `cpuacct.stat`.
    Legacy(Account, Option<Account>),
}

#[derive(Debug)]
enum Io {
    /// Version 2: `io.stat`, where the io controller is on.
    Unified(Account),
    /// Version 1: `blkio.throttle.io_service_bytes` and `blkio.throttle.io_serviced`.
    Legacy(Account, Option<Account>),
}

/// The files of one guest's groups.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    cpu: Option<Cpu>,
    io: Option<Io>,
    /// The sums over devices of the host that are not there any more are in them still.
    sums: [Sum; 4],
    /// A group was removed, or was never there: who has one is to be asked again.
    is_stale: bool,
}

impl Accounts {
    /// Of the groups that are its own. Version 2 is asked first, as libvirt does.
    pub(super) fn of(own: &Own) -> Self {
        let unified = |name| Account::at(own.unified.as_deref()?, name);
        let cpuacct = |name| Account::at(own.cpuacct.as_deref()?, name);
        let blkio = |name| Account::at(own.blkio.as_deref()?, name);
        let legacy_cpu = || Some(Cpu::Legacy(cpuacct("cpuacct.usage")?, cpuacct("cpuacct.stat")));
        let legacy_io =
            || Some(Io::Legacy(blkio("blkio.throttle.io_service_bytes")?, blkio("blkio.throttle.io_serviced")));
        let cpu = unified("cpu.stat").map(Cpu::Unified).or_else(legacy_cpu);
        let io = unified("io.stat").map(Io::Unified).or_else(legacy_io);
        Self { is_stale: cpu.is_none(), cpu, io, sums: Default::default() }
    }

    /// Are other files to be looked for?
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    pub(super) fn has_io(&self) -> bool {
        self.io.is_some()
    }

    /// `None` if the guest has no group that accounts for CPU time.
    pub(super) fn cpu(&mut self, reader: &mut Reader) -> Option<CpuSample> {
        let result = match self.cpu.as_mut()? {
            Cpu::Unified(stat) => stat.read(reader).map(unified_cpu),
            Cpu::Legacy(usage, stat) => legacy_cpu(usage, stat.as_mut(), reader),
        };
        self.is_stale |= result.is_err_and(is_gone);
        Some(result.unwrap_or_default())
    }

    /// Read and written.
    pub(super) fn io(&mut self, reader: &mut Reader) -> (KernelIo, KernelIo) {
        let result = match &mut self.io {
            None => return Default::default(),
            Some(Io::Unified(stat)) => stat.read(reader).map(unified_io),
            Some(Io::Legacy(bytes, operations)) => legacy_io(bytes, operations.as_mut(), reader),
        };
        self.is_stale |= result.is_err_and(is_gone);
        let (mut read, mut write) = result.unwrap_or_default();
        let figures = [&mut read.bytes, &mut read.operations, &mut write.bytes, &mut write.operations];
        for (sum, figure) in self.sums.iter_mut().zip(figures) {
            *figure = figure.and_then(|figure| sum.take(figure));
        }
        (read, write)
    }
}

/// A sum over devices, of which one may go and take its part with it: what was counted stays counted.
#[derive(Debug, Default)]
struct Sum {
    last: u64,
    gone: u64,
}

impl Sum {
    fn take(&mut self, sum: u64) -> Option<u64> {
        self.gone = self.gone.checked_add(self.last.saturating_sub(sum))?;
        self.last = sum;
        sum.checked_add(self.gone)
    }
}

/// Microseconds, which libvirt turns into nanoseconds too.
fn unified_cpu(text: &[u8]) -> CpuSample {
    let mut sample = CpuSample::default();
    let nanos = |text| number(text)?.checked_mul(1000);
    for line in lines(text) {
        if let Some(text) = value(line, b"usage_usec ") {
            sample.time_ns = nanos(text);
        } else if let Some(text) = value(line, b"user_usec ") {
            sample.user_ns = nanos(text);
        } else if let Some(text) = value(line, b"system_usec ") {
            sample.system_ns = nanos(text);
            // The last of the three; what follows is of limits.
            break;
        }
    }
    sample
}

fn legacy_cpu(usage: &mut Account, stat: Option<&mut Account>, reader: &mut Reader) -> Result<CpuSample, Errno> {
    let mut sample = CpuSample { time_ns: number(usage.read(reader)?.trim_ascii()), ..CpuSample::default() };
    if let Some(stat) = stat {
        for line in lines(stat.read(reader)?) {
            if let Some(text) = value(line, b"user ") {
                sample.user_ns = number(text).and_then(nanos_of_ticks);
            } else if let Some(text) = value(line, b"system ") {
                sample.system_ns = number(text).and_then(nanos_of_ticks);
            }
        }
    }
    Ok(sample)
}

/// Clock ticks as nanoseconds.
pub(super) fn nanos_of_ticks(ticks: u64) -> Option<u64> {
    ticks.checked_mul(1_000_000_000 / clock_ticks_per_second().max(1))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`, a line for each device. No line is no I/O.
fn unified_io(text: &[u8]) -> (KernelIo, KernelIo) {
    let (mut read, mut write) = (NOTHING, NOTHING);
    for field in lines(text).flat_map(|line| fields(line).skip(1)) {
        let mut parts = field.splitn(2, |byte| *byte == b'=');
        let sum = match parts.next() {
            Some(b"rbytes") => &mut read.bytes,
            Some(b"wbytes") => &mut write.bytes,
            Some(b"rios") => &mut read.operations,
            Some(b"wios") => &mut write.operations,
            _ => continue,
        };
        add(sum, parts.next());
    }
    (read, write)
}

const NOTHING: KernelIo = KernelIo { bytes: Some(0), operations: Some(0) };

/// A sum with a part that is not known is not known.
fn add(sum: &mut Option<u64>, part: Option<&[u8]>) {
    *sum = sum.and_then(|sum| sum.checked_add(number(part?)?));
}

fn legacy_io(
    bytes: &mut Account,
    operations: Option<&mut Account>,
    reader: &mut Reader,
) -> Result<(KernelIo, KernelIo), Errno> {
    let (read_bytes, write_bytes) = by_direction(bytes.read(reader)?);
    let (read_operations, write_operations) = match operations {
        Some(operations) => by_direction(operations.read(reader)?),
        None => (None, None),
    };
    Ok((
        KernelIo { bytes: read_bytes, operations: read_operations },
        KernelIo { bytes: write_bytes, operations: write_operations },
    ))
}

/// `8:0 Read 1`, `8:0 Write 2`, `8:0 Sync 3`, ..., `Total 3`.
fn by_direction(text: &[u8]) -> (Option<u64>, Option<u64>) {
    let (mut read, mut write) = (Some(0), Some(0));
    for line in lines(text) {
        let mut fields = fields(line).skip(1);
        match fields.next() {
            Some(b"Read") => add(&mut read, fields.next()),
            Some(b"Write") => add(&mut write, fields.next()),
            _ => {}
        }
    }
    (read, write)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fake::Host;
    use super::super::files::Budget;
    use super::*;

    const MS: u64 = 1_000_000;

    fn io(bytes: u64, operations: u64) -> KernelIo {
        KernelIo { bytes: Some(bytes), operations: Some(operations) }
    }

    fn own(host: &Host) -> Own {
        let at = |name| Some(host.path().join(name)).filter(|path| path.exists());
        Own { unified: at("unified"), cpuacct: at("cpuacct"), blkio: at("blkio") }
    }

    fn accounts(host: &Host) -> Accounts {
        Accounts::of(&own(host))
    }

    #[test]
    fn version_2_has_it_in_two_files() {
        let host = Host::new();
        host.write("unified/cpu.stat", "usage_usec 3000\nuser_usec 1000\nsystem_usec 2000\nnr_periods 0\n");
        host.write(
            "unified/io.stat",
            "8:0 rbytes=100 wbytes=20 rios=3 wios=4 dbytes=0 dios=0\n8:16 \n8:32 rbytes=1 wbytes=2 rios=1 wios=1\n",
        );
        let (mut accounts, mut reader) = (accounts(&host), Reader::new(Budget::new(9)));
        let expected = CpuSample { time_ns: Some(3 * MS), user_ns: Some(MS), system_ns: Some(2 * MS) };
        assert_eq!(accounts.cpu(&mut reader), Some(expected));
        assert_eq!(accounts.io(&mut reader), (io(101, 4), io(22, 5)));
        assert_eq!(reader.budget.used(), 2);
    }

    #[test]
    fn a_device_that_goes_takes_nothing_of_what_was_counted() {
        let host = Host::new();
        host.write("unified/io.stat", "");
        let (mut accounts, mut reader) = (accounts(&host), Reader::new(Budget::new(9)));
        let mut read = |text: &str| {
            // In the file that is open, as the kernel does.
            std::fs::write(host.path().join("unified/io.stat"), text).expect("written");
            accounts.io(&mut reader).0.bytes
        };
        assert_eq!(read("8:0 rbytes=100 wbytes=0 rios=1 wios=0\n8:16 rbytes=70 wbytes=0 rios=1 wios=0\n"), Some(170));
        assert_eq!(read("8:0 rbytes=130 wbytes=0 rios=1 wios=0\n"), Some(170), "what is left is less");
        assert_eq!(read("8:0 rbytes=140 wbytes=0 rios=1 wios=0\n"), Some(180));
    }

    #[test]
    fn version_1_has_it_in_four() {
        let host = Host::new();
        host.write("cpuacct/cpuacct.usage", "3000123\n");
        host.write("cpuacct/cpuacct.stat", "user 1\nsystem 2\n");
        let text = "8:0 Read 100\n8:0 Write 20\n8:0 Sync 1\n8:0 Total 120\n8:16 Read 1\n8:16 Write 2\nTotal 123\n";
        host.write("blkio/blkio.throttle.io_service_bytes", text);
        host.write("blkio/blkio.throttle.io_serviced", "8:0 Read 3\n8:0 Write 4\nTotal 7\n");
        let (mut accounts, mut reader) = (accounts(&host), Reader::new(Budget::new(9)));
        let tick = nanos_of_ticks(1);
        let expected = CpuSample { time_ns: Some(3_000_123), user_ns: tick, system_ns: tick.map(|tick| 2 * tick) };
        assert_eq!(accounts.cpu(&mut reader), Some(expected));
        assert_eq!(accounts.io(&mut reader), (io(101, 3), io(22, 4)));
    }

    #[test]
    fn on_a_hybrid_host_each_has_its_hierarchy() {
        let host = Host::new();
        host.write("unified/cpu.stat", "usage_usec 3\n");
        host.write("cpuacct/cpuacct.usage", "9999\n");
        host.write("blkio/blkio.throttle.io_service_bytes", "Total 0\n");
        let (mut accounts, mut reader) = (accounts(&host), Reader::new(Budget::new(9)));
        assert_eq!(accounts.cpu(&mut reader).and_then(|cpu| cpu.time_ns), Some(3000));
        let only_bytes = KernelIo { bytes: Some(0), operations: None };
        assert_eq!(accounts.io(&mut reader), (only_bytes, only_bytes));
        assert!(accounts.has_io());
    }

    #[test]
    fn garbage_is_none_and_an_empty_account_is_nothing_done() {
        let host = Host::new();
        host.write("unified/cpu.stat", "usage_usec many\nuser_usec 99999999999999999999\nsystem_usec\n");
        host.write("unified/io.stat", "8:0 rbytes=x wbytes=1 rios wios=-1\n");
        let (mut accounts, mut reader) = (accounts(&host), Reader::new(Budget::new(9)));
        assert_eq!(accounts.cpu(&mut reader), Some(CpuSample::default()));
        let write = KernelIo { bytes: Some(1), operations: None };
        assert_eq!(accounts.io(&mut reader), (KernelIo::default(), write));
        assert_eq!(unified_io(b""), (io(0, 0), io(0, 0)));
        assert!(!accounts.is_stale());
    }

    #[test]
    fn without_a_group_there_is_nothing_and_a_removed_one_is_asked_for_again() {
        let host = Host::new();
        let mut reader = Reader::new(Budget::new(0));
        assert_eq!(accounts(&host).cpu(&mut reader), None);
        assert!(accounts(&host).is_stale());
        host.write("unified/cpu.stat", "usage_usec 3\n");
        let mut accounts = accounts(&host);
        assert!(!accounts.is_stale());
        host.remove("unified");
        assert_eq!(accounts.cpu(&mut reader), Some(CpuSample::default()));
        assert!(accounts.is_stale());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([a-z_]{0,12}|8:0|Read|rbytes|usage_usec|[0-9]{1,22}|[ =\n]){0,30}") {
            unified_cpu(text.as_bytes());
            unified_io(text.as_bytes());
            by_direction(text.as_bytes());
        }
    }
}
