//! A guest's record of the bulk call: the parameters that libvirt 9 sends, in its order.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::disk::Disk;
use super::guest::Guest;
use super::load::Moment;
use super::shape::number_of;
use super::{Depth, Params, Value, figures, groups, qemu};

/// Takes the parameters of one record. Names are put together in one buffer.
struct Record<'a> {
    out: &'a mut dyn Params,
    name: String,
    /// How much of the name is that of the device.
    device: usize,
}

impl Record<'_> {
    fn put(&mut self, name: &str, value: Value<'_>) {
        self.out.put(name, value);
    }

    /// The names of [`Self::of_device`] begin with `group.number.` from now on.
    fn device(&mut self, group: &str, number: u32) {
        self.name.clear();
        // A String takes whatever is written.
        let _ = write!(self.name, "{group}.{number}.");
        self.device = self.name.len();
    }

    fn of_device(&mut self, name: &str, value: Value<'_>) {
        self.name.truncate(self.device);
        self.name.push_str(name);
        self.out.put(&self.name, value);
    }
}

/// The record of a guest. `NoMonitor` is what comes of one whose monitor another call holds.
pub(super) fn record(guest: &Guest, groups: u32, depth: Depth, now: SystemTime, out: &mut dyn Params) {
    let mut record = Record { out, name: String::with_capacity(80), device: 0 };
    let record = &mut record;
    let asked = |group: u32| groups & group != 0;
    let whole = depth == Depth::Whole;
    if asked(groups::STATE) {
        record.put("state.state", Value::Int(guest.state));
        record.put("state.reason", Value::Int(guest.reason));
    }
    if groups == groups::STATE {
        return;
    }
    let moment = guest.moment(now);
    let moment = moment.as_ref();
    if let Some(moment) = moment.filter(|_| asked(groups::CPU_TOTAL)) {
        cpu(record, guest, moment, whole);
    }
    if asked(groups::BALLOON) {
        balloon(record, guest, moment.filter(|_| whole), now);
    }
    if asked(groups::VCPU) {
        vcpus(record, guest, moment, whole);
    }
    if let Some(moment) = moment.filter(|_| asked(groups::INTERFACE)) {
        nics(record, guest, moment);
    }
    if asked(groups::BLOCK) {
        disks(record, guest, moment, whole);
    }
    if let Some(moment) = moment.filter(|_| whole) {
        if asked(groups::IOTHREAD) {
            iothreads(record, guest.shape.iothreads);
        }
        if asked(groups::DIRTYRATE) {
            record.put("dirtyrate.calc_status", Value::Int(0));
            record.put("dirtyrate.calc_start_time", Value::LLong(0));
            record.put("dirtyrate.calc_period", Value::Int(0));
            record.put("dirtyrate.calc_mode", Value::Text("page-sampling"));
        }
        if asked(groups::VM) {
            vm(record, guest, moment);
        }
    }
}

fn cpu(record: &mut Record<'_>, guest: &Guest, moment: &Moment, whole: bool) {
    let cpu = figures::cpu(&guest.shape, moment);
    record.put("cpu.time", Value::ULLong(cpu.time()));
    record.put("cpu.user", Value::ULLong(cpu.user));
    record.put("cpu.system", Value::ULLong(cpu.system));
    record.put("cpu.cache.monitor.count", Value::UInt(0));
    if whole {
        let (mut success, mut fail) = (0, 0);
        for number in 0..guest.shape.vcpus_current {
            let vcpu = figures::vcpu(&guest.shape, moment, number);
            success += qemu::POLL_SUCCESS.at(vcpu.busy, moment.seconds);
            fail += qemu::POLL_FAIL.at(vcpu.busy, moment.seconds);
        }
        record.put("cpu.haltpoll.success.time", Value::ULLong(success));
        record.put("cpu.haltpoll.fail.time", Value::ULLong(fail));
    }
}

/// `moment` is None if there is nobody to ask.
fn balloon(record: &mut Record<'_>, guest: &Guest, moment: Option<&Moment>, now: SystemTime) {
    record.put("balloon.current", Value::ULLong(guest.shape.current_kib));
    record.put("balloon.maximum", Value::ULLong(guest.shape.memory_kib));
    let Some(moment) = moment else { return };
    if guest.has_balloon() {
        let memory = guest.memory(now);
        let last_update = Value::ULLong(memory.map_or(0, |memory| memory.last_update));
        let figures = memory.map(|memory| memory.figures());
        let (before, after) = figures.as_ref().map_or((&[][..], &[][..]), |figures| figures.split_at(7));
        for (_, name, value) in before {
            record.put(name, Value::ULLong(*value));
        }
        record.put("balloon.last-update", last_update);
        for (_, name, value) in after {
            record.put(name, Value::ULLong(*value));
        }
    }
    record.put("balloon.rss", Value::ULLong(figures::resident_kib(&guest.shape, moment)));
}

fn vcpus(record: &mut Record<'_>, guest: &Guest, moment: Option<&Moment>, whole: bool) {
    record.put("vcpu.current", Value::UInt(guest.shape.vcpus_current));
    record.put("vcpu.maximum", Value::UInt(guest.shape.vcpus));
    let Some(moment) = moment else { return };
    for number in 0..guest.shape.vcpus_current {
        let vcpu = figures::vcpu(&guest.shape, moment, number);
        record.device("vcpu", number);
        record.of_device("state", Value::Int(1));
        record.of_device("time", Value::ULLong(vcpu.time()));
        record.of_device("wait", Value::ULLong(vcpu.wait));
        record.of_device("delay", Value::ULLong(vcpu.delay));
        if whole {
            for growth in &qemu::VCPU {
                record.of_device(growth.name, Value::ULLong(growth.at(vcpu.busy, moment.seconds)));
            }
            record.of_device(qemu::VCPU_GUEST_MODE, Value::Boolean(false));
            record.of_device(qemu::VCPU_BLOCKING, Value::Boolean(vcpu.blocking));
        }
    }
}

/// NICs without a device on the host count, and have no figures.
fn nics(record: &mut Record<'_>, guest: &Guest, moment: &Moment) {
    const NAMES: [&str; 8] = ["rx.bytes", "rx.pkts", "rx.errs", "rx.drop", "tx.bytes", "tx.pkts", "tx.errs", "tx.drop"];
    record.put("net.count", Value::UInt(number_of(&guest.shape.nics)));
    for (number, nic) in (0..).zip(&guest.shape.nics) {
        if nic.device.is_empty() {
            continue;
        }
        record.device("net", number);
        record.of_device("name", Value::Text(&nic.device));
        for (name, value) in NAMES.into_iter().zip(nic.counters(moment)) {
            record.of_device(name, Value::ULLong(value));
        }
    }
}

fn disks(record: &mut Record<'_>, guest: &Guest, moment: Option<&Moment>, whole: bool) {
    record.put("block.count", Value::UInt(number_of(&guest.shape.disks)));
    for (number, disk) in (0..).zip(&guest.shape.disks) {
        record.device("block", number);
        record.of_device("name", Value::Text(&disk.target));
        if let Some(path) = disk.path() {
            record.of_device("path", Value::Text(path));
        }
        match moment {
            Some(moment) => {
                if disk.is_loaded() {
                    record.of_device("backingIndex", Value::UInt(disk.node));
                }
                if whole {
                    running_disk(record, disk, moment);
                }
            }
            None => shut_off_disk(record, disk),
        }
    }
}

fn running_disk(record: &mut Record<'_>, disk: &Disk, moment: &Moment) {
    let counters = disk.counters(moment);
    for (name, value) in [
        ("rd.reqs", counters.rd_reqs),
        ("rd.bytes", counters.rd_bytes),
        ("rd.times", counters.rd_times),
        ("wr.reqs", counters.wr_reqs),
        ("wr.bytes", counters.wr_bytes),
        ("wr.times", counters.wr_times),
        ("fl.reqs", counters.fl_reqs),
        ("fl.times", counters.fl_times),
    ] {
        record.of_device(name, Value::ULLong(value));
    }
    if disk.is_loaded() {
        let sizes = disk.sizes(counters.wr_bytes);
        record.of_device("allocation", Value::ULLong(sizes.highest));
        record.of_device("capacity", Value::ULLong(sizes.capacity));
        if let Some(taken) = sizes.taken {
            record.of_device("physical", Value::ULLong(taken));
        }
    }
}

/// libvirtd looks at the file itself, and calls the sizes otherwise.
fn shut_off_disk(record: &mut Record<'_>, disk: &Disk) {
    let sizes = disk.sizes(0);
    if let (Some(taken), Some(length)) = (sizes.taken, sizes.length) {
        record.of_device("allocation", Value::ULLong(taken));
        record.of_device("capacity", Value::ULLong(sizes.capacity));
        record.of_device("physical", Value::ULLong(length));
    }
}

fn iothreads(record: &mut Record<'_>, count: u32) {
    if count == 0 {
        return;
    }
    record.put("iothread.count", Value::UInt(count));
    for number in 1..=count {
        record.device("iothread", number);
        record.of_device("poll-max-ns", Value::ULLong(32_768));
        record.of_device("poll-grow", Value::UInt(0));
        record.of_device("poll-shrink", Value::UInt(0));
    }
}

fn vm(record: &mut Record<'_>, guest: &Guest, moment: &Moment) {
    let busy = figures::cpu(&guest.shape, moment).time() as f64 / 1e9;
    for growth in &qemu::VM {
        record.put(growth.name, Value::ULLong(growth.at(busy, moment.seconds)));
    }
    // In pages of 4 KiB and of 2 MiB: half of the memory each, or all of it huge.
    let resident = figures::resident_kib(&guest.shape, moment);
    let (small, large) =
        if guest.shape.hugepages { (0, guest.shape.current_kib) } else { (resident / 2, resident / 2) };
    record.put("vm.pages_4k.cur", Value::ULLong(small / 4));
    record.put("vm.pages_2m.cur", Value::ULLong(large / 2048));
    record.put("vm.pages_1g.cur", Value::ULLong(0));
    record.put("vm.mmu_unsync.cur", Value::ULLong(0));
    record.put("vm.nx_lpage_splits.cur", Value::ULLong(0));
}
