//! The table of procedures. Numbers, names and priorities are those of libvirt's `remote_protocol.x`.

use super::{Caller, Written, connect, device, domain};
use crate::faults::Wants;
use crate::host::{Guest, Host};
use crate::wire::RpcError;
use crate::xdr::{Decoder, Encoder};

/// One procedure.
pub(crate) struct Procedure {
    pub(crate) number: u32,
    /// As libvirt's dispatcher names it, behind `remoteDispatch`.
    pub(crate) name: &'static str,
    /// Served by priority workers too.
    pub(crate) priority: bool,
    /// Allowed on a connection whose hypervisor was not opened yet.
    pub(crate) before_open: bool,
    pub(crate) serve: Serve,
}

/// How a procedure is served, and what of guests it waits for.
pub(crate) enum Serve {
    /// Touches no guest.
    Host(fn(&Caller<'_>, &mut Decoder<'_>, &mut Encoder) -> Written),
    /// Takes the lock of every domain.
    List(fn(&Caller<'_>, &mut Decoder<'_>, &mut Encoder) -> Written),
    /// Finds a domain, and takes its lock.
    LookUp(for<'h> fn(&'h Host, &mut Decoder<'_>) -> Result<&'h Guest, RpcError>),
    /// Is about one domain: takes its lock, and enters its monitor if it wants that.
    Guest(Wants, fn(&Caller<'_>, &Guest, &mut Decoder<'_>, &mut Encoder) -> Written),
    /// Statistics of many.
    Bulk,
}

/// Enters no monitor.
const FREE: Wants = Wants { job: false, monitor: false, block: false, file: false };
/// Asks QEMU.
const MONITOR: Wants = Wants { job: true, monitor: true, block: false, file: false };
/// Asks QEMU for counters of disks.
const BLOCK: Wants = Wants { job: true, monitor: true, block: true, file: false };
/// Asks QEMU, and opens the file.
const FILE: Wants = Wants { job: true, monitor: true, block: true, file: true };

const fn high(number: u32, name: &'static str, serve: Serve) -> Procedure {
    Procedure { number, name, priority: true, before_open: false, serve }
}

const fn low(number: u32, name: &'static str, serve: Serve) -> Procedure {
    Procedure { number, name, priority: false, before_open: false, serve }
}

const fn first(number: u32, name: &'static str, serve: Serve) -> Procedure {
    Procedure { number, name, priority: true, before_open: true, serve }
}

/// All that is served, by number.
pub(crate) static TABLE: &[Procedure] = &[
    first(1, "ConnectOpen", Serve::Host(connect::open)),
    first(2, "ConnectClose", Serve::Host(connect::close)),
    high(3, "ConnectGetType", Serve::Host(connect::get_type)),
    high(4, "ConnectGetVersion", Serve::Host(connect::version)),
    high(5, "ConnectGetMaxVcpus", Serve::Host(connect::max_vcpus)),
    high(6, "NodeGetInfo", Serve::Host(connect::node_info)),
    low(14, "DomainGetXMLDesc", Serve::Guest(FREE, domain::xml)),
    high(15, "DomainGetAutostart", Serve::Guest(FREE, domain::autostart)),
    low(16, "DomainGetInfo", Serve::Guest(FREE, domain::info)),
    high(17, "DomainGetMaxMemory", Serve::Guest(FREE, domain::max_memory)),
    high(18, "DomainGetMaxVcpus", Serve::Guest(FREE, domain::max_vcpus)),
    high(19, "DomainGetOSType", Serve::Guest(FREE, domain::os_type)),
    high(20, "DomainGetVcpus", Serve::Guest(FREE, domain::vcpus)),
    high(21, "ConnectListDefinedDomains", Serve::List(domain::list_defined)),
    high(22, "DomainLookupByID", Serve::LookUp(domain::by_id)),
    high(23, "DomainLookupByName", Serve::LookUp(domain::by_name)),
    high(24, "DomainLookupByUUID", Serve::LookUp(domain::by_uuid)),
    high(25, "ConnectNumOfDefinedDomains", Serve::List(domain::count_defined)),
    high(37, "ConnectListDomains", Serve::List(domain::list_ids)),
    high(51, "ConnectNumOfDomains", Serve::List(domain::count_active)),
    high(59, "ConnectGetHostname", Serve::Host(connect::hostname)),
    first(60, "ConnectSupportsFeature", Serve::Host(connect::supports_feature)),
    low(64, "DomainBlockStats", Serve::Guest(BLOCK, device::block_stats)),
    high(65, "DomainInterfaceStats", Serve::Guest(FREE, device::interface_stats)),
    first(66, "AuthList", Serve::Host(connect::auth_list)),
    high(110, "ConnectGetURI", Serve::Host(connect::uri)),
    high(149, "ConnectIsSecure", Serve::Host(connect::is_secure)),
    high(150, "DomainIsActive", Serve::Guest(FREE, domain::is_active)),
    high(151, "DomainIsPersistent", Serve::Guest(FREE, domain::is_persistent)),
    high(157, "ConnectGetLibVersion", Serve::Host(connect::lib_version)),
    low(159, "DomainMemoryStats", Serve::Guest(MONITOR, domain::memory_stats)),
    low(163, "DomainGetJobInfo", Serve::Guest(FREE, domain::job_info)),
    low(183, "DomainHasManagedSaveImage", Serve::Guest(FREE, domain::has_managed_save)),
    low(194, "DomainGetBlockInfo", Serve::Guest(FILE, device::block_info)),
    high(212, "DomainGetState", Serve::Guest(FREE, domain::state)),
    high(229, "DomainGetControlInfo", Serve::Guest(FREE, domain::control_info)),
    low(243, "DomainBlockStatsFlags", Serve::Guest(BLOCK, device::block_stats_flags)),
    low(262, "DomainGetCPUStats", Serve::Guest(FREE, domain::cpu_stats)),
    high(273, "ConnectListAllDomains", Serve::List(domain::list_all)),
    high(293, "NodeGetCPUMap", Serve::Host(connect::cpu_map)),
    low(298, "DomainGetJobStats", Serve::Guest(FREE, domain::job_stats)),
    high(316, "ConnectDomainEventCallbackRegisterAny", Serve::Host(connect::register)),
    high(317, "ConnectDomainEventCallbackDeregisterAny", Serve::Host(connect::deregister)),
    low(344, "ConnectGetAllDomainStats", Serve::Bulk),
    low(360, "ConnectRegisterCloseCallback", Serve::Host(connect::close_callback)),
    low(361, "ConnectUnregisterCloseCallback", Serve::Host(connect::close_callback)),
    low(426, "DomainGetMessages", Serve::Guest(FREE, domain::messages)),
];

/// The procedure of a number.
pub(crate) fn find(number: u32) -> Option<&'static Procedure> {
    let place = TABLE.binary_search_by_key(&number, |procedure| procedure.number).ok()?;
    TABLE.get(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|a, b| a.number < b.number));
        assert!(TABLE.iter().all(|procedure| find(procedure.number).is_some_and(|found| found.name == procedure.name)));
        assert!(find(7).is_none());
    }
}
