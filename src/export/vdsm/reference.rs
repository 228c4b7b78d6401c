//! docs/ovirt.md, generated from the tables that the answers are written from, so that it cannot say anything else.

use std::fmt::Write as _;

use super::rpc::{self, METHODS};
use super::table::Row;
use super::{host, vm};

const INTRODUCTION: &str = "\
# oVirt: what VDSM reports

virtstatd answers as oVirt's VDSM does: the same field names, the same types (VDSM writes many numbers as strings), units and
formulas, for whatever can be known from libvirt and the host's kernel. What cannot be known is left out: a key that is absent is
what VDSM itself sends for \"not known\". Nothing is made up, and no call waits for libvirt.

The facts about VDSM are from its source (oVirt/vdsm, June 2026), where schema and code differ from what the code sends. This page
is generated from the tables in `src/export/vdsm`, from which the answers are written too; the test `ovirt_reference_is_current`
fails where they differ, and writes it anew with `VIRTSTATD_BLESS=1`.

## Where to ask

| what | how |
|---|---|
| HostStats | `GET /api/v1/vdsm/host` |
| a list of VmStats | `GET /api/v1/vdsm/vms` |
| one VmStats | `GET /api/v1/vdsm/vms/{uuid}` |
| JSON-RPC 2.0 | `POST /jsonrpc` |
| the same, over STOMP | `stomp-listen` under `[vdsm]`; off by default |

    curl -s http://127.0.0.1:9177/api/v1/vdsm/vms
    curl -s http://127.0.0.1:9177/jsonrpc -d '{\"jsonrpc\": \"2.0\", \"method\": \"Host.getAllVmStats\", \"id\": 1}'

### Beside a running VDSM

VDSM keeps its port, 54321; virtstatd takes another one, and both watch the same libvirt without getting in each other's way:

    [vdsm]
    stomp-listen = [\"127.0.0.1:54322\"]

oVirt's own client then reads either of them. Its library is what scripts for VDSM are written with, so that a script needs another
port and nothing else:

    vdsm-client --insecure -a 127.0.0.1 -p 54322 Host getAllVmStats
    vdsm-client --insecure -a 127.0.0.1 -p 54322 VM getStats vmID=6695eb01-f6a4-8304-79aa-97f2502e193f

    from vdsm import client
    host = client.connect(\"127.0.0.1\", 54322, use_tls=False)
    for vm in host.Host.getAllVmStats():
        print(vm[\"vmName\"], vm.get(\"cpuSys\"))

- Plain TCP is for loopback addresses. Any other address needs TLS with client certificates, as VDSM has it; the defaults of
  `tls-certificate`, `tls-key` and `tls-ca` are VDSM's own files. VDSM's key is the host's identity: let the service's user alone read
  it (`setfacl -m u:virtstatd:r` on it), or give the service a certificate of its own; the group kvm may read every guest's disk.
  Certificates that cannot be used stop nothing else, and are tried again each minute.
- HTTP has neither TLS nor authentication: whoever reaches its address gets the same figures.
- A manager such as MOM asks VDSM for `Host.getStats`, `Host.getAllVmStats` and `VM.getStats`, and gets them here. What it changes
  (KSM, balloons, CPU limits) it goes on telling VDSM: virtstatd only looks.
- The engine itself keeps talking to VDSM, since it needs many methods that change things. What reads statistics for it can be
  pointed here: a poll of ten thousand VMs costs libvirt nothing.

### Where virtstatd and VDSM differ, on purpose

- Paused VMs are sampled like those that run. VDSM does not ask them, so that they turn unresponsive after a minute.
- `rxDropped` and `txDropped` of the host are the right way round; VDSM has them exchanged.
- `memShared` is in bytes, as VDSM's schema says; VDSM sends MiB.
- A value that is not known is left out. VDSM sends its initial values (\"0\", \"0.00\") before the second sample, and after a sample
  that QEMU answered only in part.
- Counters are there from the first sample on, rates from the second. A rate across a counter that went back is left out, where
  VDSM sends a negative one.
- A request is answered once, a batch with an array, a notification not at all; `result` and `error` are never both there.
- Lists show domains that run, and those that were seen running since the service began. VDSM shows no others either; a domain that is
  asked for by its UUID is answered whether it runs or not.
- Until every running domain was asked once, after the start and when stats groups were added, calls are refused with code 99, as
  VDSM refuses them while it recovers.
- `timeOffset` is what the guest set its clock to, as libvirt tells it, which has the offset at the start in it; VDSM adds that again.
- `rxDropped` of a host's link has in it what its device missed, as in /proc/net/dev; VDSM reads the two apart and takes one.
- `diskStats` has the paths under `[host]` in the configuration. Who looks for `/tmp` and `/var/log` there, as VDSM has them, names them:
  `paths = [\"/\", \"/var/lib/libvirt/images\", \"/tmp\", \"/var/log\"]`.

";

const CALLS: &str = "\
Version 2.0, with parameters by name or by position, and batches of up to 10,000 calls. An id is text, a number or null, has 1 KiB at
most, and comes back byte for byte.
A batch is answered as of one moment. A request over HTTP may have 1 MiB, and so may a frame of STOMP.

- `\"id\": null` is a request like others; VDSM takes it for a notification.
- `fullStatus` and `onlyUUID` may have any value, as in VDSM. `vmList` null or empty means all; what is not there is skipped.
- What is wrong with a request is said at any time, and pings are answered at any time.
- A member, or a parameter, that is there twice is an error; in VDSM the last one counts.
- A parameter that does not exist is an error; VDSM says so in its strict mode alone. A `vmID` that is no UUID is refused with 91; in
  VDSM it is a VM that does not exist.
";

const OTHER_CODES: &str = "
Codes 6 (the VM is down), 16 and 100 (unexpected, general) are never sent: nothing here works on a VM, and whatever goes wrong has a
code of its own.

";

/// What VDSM sends and virtstatd does not, by record.
const LEFT_OUT: &[(&str, &[(&str, &str)])] = &[
    (
        "RunningVmStats",
        &[
            ("guestCPUCount", "known to the guest's agent alone; without one VDSM says -1"),
            ("memoryStats.mem_cached, .mem_buffers", "known to oVirt's old guest agent alone"),
            ("username, session", "known to the agent; without one VDSM says \"Unknown\""),
            ("guestIPs, guestFQDN, appsList", "known to the agent; without one VDSM says \"\" and []"),
            ("netIfaces, disksUsage, guestContainers, pci_devices", "known to the agent"),
            ("guestName, guestOs, guestOsInfo, guestTimezone, lastLogin, lastLogout, lastUser", "known to the agent"),
            ("migrationProgress", "VDSM tells it of migrations that it makes itself"),
            ("vmJobs", "VDSM's own block jobs"),
            ("nvramHash, tpmHash", "made from files that VDSM keeps of such devices"),
            (
                "pid, displayIp, displayPort, displaySecurePort, displayType, boot, cdrom",
                "in VDSM's schema, but not sent by VDSM",
            ),
        ],
    ),
    (
        "HostStats",
        &[
            ("momStatus", "MOM's state is known to VDSM"),
            ("netConfigDirty", "VDSM's own network configuration"),
            ("haStats, haScore", "the hosted engine's agent"),
            ("storageDomains, multipathHealth", "VDSM's storage monitor"),
            ("v2vJobs", "VDSM's own conversions"),
        ],
    ),
];

/// The page.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    calls(&mut page);
    page.push_str("## VmStats\n\nA union, told apart by `status`.\n");
    records(&mut page, vm::records());
    left_out(&mut page, "RunningVmStats");
    page.push_str("\n## HostStats\n");
    records(&mut page, host::records());
    left_out(&mut page, "HostStats");
    page
}

fn calls(page: &mut String) {
    page.push_str("## JSON-RPC\n\n");
    page.push_str(CALLS);
    page.push_str("\n| method | parameters, in their order | result |\n|---|---|---|\n");
    for method in METHODS {
        let parameter = |it: &rpc::Parameter| if it.required { it.name.to_owned() } else { format!("[{}]", it.name) };
        let parameters = method.parameters.iter().map(parameter).collect::<Vec<_>>().join(", ");
        let _ = writeln!(page, "| {} | {parameters} | {} |", method.name, method.purpose);
    }
    page.push_str("\n| code | when | message, for example |\n|---|---|---|\n");
    for (code, message, when) in rpc::errors() {
        let _ = writeln!(page, "| {code} | {when} | `{message}` |");
    }
    page.push_str(OTHER_CODES);
}

fn records(page: &mut String, records: Vec<(&str, &str, Vec<Row>)>) {
    for (name, of, rows) in records {
        let of = if of.is_empty() { String::new() } else { format!(": {of}") };
        let _ = write!(page, "\n### {name}{of}\n\n| field | JSON | unit | what |\n|---|---|---|---|\n");
        for Row { name, json, unit, what } in rows {
            let _ = writeln!(page, "| {name} | {} | {unit} | {what} |", json.name());
        }
    }
}

fn left_out(page: &mut String, record: &str) {
    let _ = write!(page, "\n### Left out of {record}\n\n| field | why |\n|---|---|\n");
    for (fields, why) in LEFT_OUT.iter().filter(|(name, _)| *name == record).flat_map(|(_, fields)| *fields) {
        let _ = writeln!(page, "| {fields} | {why} |");
    }
}
