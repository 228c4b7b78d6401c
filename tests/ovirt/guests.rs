//! One guest in each state that is told apart.

use std::time::Duration;

use virtstatd::model::{
    BalloonSample, Block, BlockInfo, BlockSample, CpuSample, DiskDescription, DomainDescription, DomainHealth, Figures,
    GraphicsDescription, Happened, Interface, InterfaceSample, Io, IoError, IoErrorAction, NicDescription, OVirt,
    OVirtDisk, PauseReason, Standing, StateSample, StopReason, Traffic, Vcpu, VcpuSample, WatchdogAction,
};
use virtstatd::store::BlockInfoAnswer;

use crate::made::{ID, Made, RUN, SECOND};

fn description() -> DomainDescription {
    let disk = |target: &str, device: &str, limits: &[(&str, u64)]| DiskDescription {
        target: target.into(),
        device: device.into(),
        source: if device == "disk" { format!("/images/{target}.qcow2").into() } else { "".into() },
        io_limits: limits.iter().map(|(name, limit)| ((*name).into(), *limit)).collect(),
        ..DiskDescription::default()
    };
    let nic = |target: &str, mac: &str, model: &str, interface_type: &str| NicDescription {
        target: target.into(),
        mac: mac.into(),
        model: model.into(),
        interface_type: interface_type.into(),
        ..NicDescription::default()
    };
    DomainDescription {
        domain_type: "kvm".into(),
        vcpus: Some(2),
        memory_kib: Some(2_097_152),
        memory_maximum_kib: Some(4_194_304 + 1_048_576),
        acpi: true,
        clock_adjustment_s: Some(-7200),
        vcpu_quota_us: Some(50_000),
        vcpu_period_us: Some(100_000),
        graphics: vec![
            GraphicsDescription {
                graphics_type: "vnc".into(),
                port: "5900".into(),
                tls_port: "".into(),
                address: "127.0.0.1".into(),
            },
            GraphicsDescription {
                graphics_type: "spice".into(),
                port: "5901".into(),
                tls_port: "5902".into(),
                address: "".into(),
            },
        ],
        balloons: 1,
        nvdimm_kib: 1_048_576,
        devices_hash: Some(u64::MAX - 4),
        disks: vec![
            disk("vda", "disk", &[("total_bytes_sec", 10_000_000), ("read_iops_sec_max", 500)]),
            disk("vdb", "disk", &[]),
            disk("sda", "cdrom", &[]),
        ],
        nics: vec![
            nic("vnet0", "52:54:00:00:00:01", "virtio", "bridge"),
            nic("vnet1", "52:54:00:00:00:02", "rtl8139", "network"),
            nic("", "52:54:00:00:00:03", "", "hostdev"),
        ],
        ovirt: Some(Box::new(OVirt {
            vcpu_limit: Some("80".into()),
            guaranteed_memory_mib: Some(1024),
            balloon_target_kib: Some(3_145_728),
            ballooning_enabled: Some(false),
            disks: vec![
                OVirtDisk {
                    target: "vda".into(),
                    image_id: Some("0f0e3c8e-8a3b-4c1e-9d53-1e2f3a4b5c6d".into()),
                    lun_guid: None,
                },
                OVirtDisk { target: "vdb".into(), image_id: None, lun_guid: Some("3600140500000001".into()) },
            ],
        })),
        ..DomainDescription::default()
    }
}

fn state(state: i64, reason: i64) -> StateSample {
    StateSample { state: Some(state), reason: Some(reason) }
}

/// Every figure; they grow with `step`.
fn figures(step: u64, state: StateSample) -> Figures {
    let io = |base: u64| Io { requests: Some(base), bytes: Some(base * 4096), time_ns: Some(base * 250_001) };
    let disk = |index, name: &str| Block {
        index,
        name: Some(name.into()),
        path: Some(format!("/images/{name}.qcow2").into()),
        read: io(step * 1000),
        write: io(step * 300),
        // Nothing was flushed.
        flush: Io { bytes: None, ..io(9) },
        allocation_bytes: Some(1 << 30),
        capacity_bytes: Some(10 << 30),
        physical_bytes: Some((1 << 30) + 4096),
    };
    let traffic = |base: u64| Traffic { bytes: Some(base * 64), packets: Some(base), errors: Some(1), drops: Some(2) };
    let nic = |index, name: Option<&str>| Interface {
        index,
        name: name.map(Into::into),
        receive: traffic(step * 5000),
        transmit: traffic(step * 7000),
    };
    let vcpu = |index| Vcpu { index, time_ns: Some(step * 6_000_000_000), ..Vcpu::default() };
    Figures {
        state: Some(state),
        cpu: Some(CpuSample {
            time_ns: Some(step * 12_000_000_000),
            user_ns: Some(step * 8_000_000_000),
            system_ns: Some(step * 3_500_000_000),
        }),
        vcpu: Some(VcpuSample { current: Some(2), maximum: Some(4), vcpus: vec![vcpu(0), vcpu(1)] }),
        interface: Some(InterfaceSample {
            count: Some(3),
            interfaces: vec![nic(0, Some("vnet0")), nic(1, Some("vnet1")), nic(2, None)],
        }),
        block: Some(BlockSample {
            count: Some(3),
            disks: vec![
                disk(0, "vda"),
                disk(1, "vdb"),
                Block { index: 2, name: Some("sda".into()), ..Block::default() },
            ],
        }),
        balloon: Some(BalloonSample {
            current_kib: Some(3_145_728),
            maximum_kib: Some(4_194_304),
            swap_in_kib: Some(step * 15),
            swap_out_kib: Some(step * 30),
            major_faults: Some(step * 37),
            minor_faults: Some(step * 1500),
            unused_kib: Some(1_000_000),
            available_kib: Some(3_000_000),
            disk_caches_kib: Some(200_000),
            rss_kib: Some(2_500_000),
            ..BalloonSample::default()
        }),
    }
}

fn sizes(made: &Made) {
    let answer = |target: &str, info| BlockInfoAnswer {
        started: made.store.stamp(),
        id: ID,
        run: Some(RUN),
        target: target.into(),
        info,
    };
    let info = BlockInfo {
        capacity_bytes: Some(10 << 30),
        allocation_bytes: Some(1 << 30),
        physical_bytes: Some((1 << 30) + 196_608),
    };
    made.store.apply_block_infos(vec![answer("vda", Some(info)), answer("sda", None)]);
}

pub(crate) fn busy() -> Made {
    let made = Made::new(description());
    made.started(90_000);
    made.sample(figures(1, state(1, 1)));
    made.happened(Happened::Watchdog(WatchdogAction::PowerOff));
    made.happened(Happened::Graphics("192.0.2.7".into()));
    made.advance(15 * SECOND);
    made.sample(figures(2, state(1, 1)));
    sizes(&made);
    made.advance(Duration::from_millis(1234));
    made
}

/// A disk is full, and so the guest stands still; it is asked all the same.
pub(crate) fn paused() -> Made {
    let made = Made::new(description());
    made.started(90_000);
    made.sample(figures(1, state(1, 1)));
    made.advance(SECOND);
    let error = |reason: Option<&str>| {
        Happened::IoError(Box::new(IoError {
            device: Some("virtio-disk0".into()),
            path: Some("/images/vda.qcow2".into()),
            action: IoErrorAction::Pause,
            reason: reason.map(Into::into),
        }))
    };
    made.happened(error(Some("enospc")));
    made.happened(Happened::Paused(PauseReason::IoError));
    for _ in 0..6 {
        made.advance(15 * SECOND);
        made.sample(figures(1, state(3, 5)));
    }
    made
}

/// libvirt is starting its QEMU; nothing else is known.
pub(crate) fn starting() -> Made {
    let made = Made::new(DomainDescription { ovirt: None, graphics: Vec::new(), ..description() });
    made.started(99_999);
    made.sample(Figures { state: Some(state(3, 11)), ..Figures::default() });
    made.advance(SECOND / 2);
    made
}

/// QEMU has not answered for over a minute: what needs no answer of it is new, all else is too old to be told.
pub(crate) fn unresponsive() -> Made {
    let made = Made::new(description());
    made.started(90_000);
    made.sample(figures(1, state(1, 1)));
    made.advance(7 * SECOND);
    let health = DomainHealth {
        standing: Standing::Quarantined,
        unresponsive_since: Some(made.store.stamp()),
        ..DomainHealth::default()
    };
    made.store.apply_health(vec![(ID, health)]);
    for step in [2, 3, 4, 5, 6] {
        made.advance(15 * SECOND);
        made.sample(Figures { block: None, balloon: None, ..figures(step, state(1, 1)) });
    }
    made
}

pub(crate) fn off() -> Made {
    let made = Made::new(description());
    made.sample(figures(1, state(1, 1)));
    made.advance(SECOND);
    made.happened(Happened::Stopped(StopReason::Shutdown));
    made.list(None, Some(state(5, 1)), Some(description()));
    made
}
