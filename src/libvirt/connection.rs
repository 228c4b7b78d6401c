//! One read-only connection to libvirt, as a source.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

use super::decode::{Decoder, Value};
use super::ffi::{self, Connection, Handle, Records};
use super::xml;
use crate::model::{
    BlockInfo, BulkReply, BulkRequest, Control, DomainDescription, DomainId, DomainRecord, EventSink, HostVersions,
    InventoryReply, InventoryRequest, Lease, ListedDomain, Peer, Scope, Source, SourceError, StateSample,
};

/// How many handles of domains that are not asked about at the moment are kept. One takes some 200 bytes; looking a domain up
/// again is a call. So many domains has a list of libvirt's at most.
const IDLE_HANDLES: usize = 16_384;

pub(super) struct LibvirtSource {
    // Handles before the connection: fields are dropped in this order.
    /// Handles are good on their own connection only, so each source keeps those it has looked up.
    pub(super) handles: HashMap<DomainId, Handle>,
    connection: Connection,
    pub(super) decoder: Decoder,
    versions: Option<HostVersions>,
    /// Domains whose XML was complained about; once is enough.
    not_understood: HashSet<DomainId>,
    /// What the XML of each said, and its fingerprint: XML that is read again is nearly always the same.
    described: HashMap<DomainId, (u64, Arc<DomainDescription>)>,
    peer: Option<Peer>,
}

impl Source for LibvirtSource {
    fn bulk(&mut self, request: &BulkRequest) -> Result<BulkReply, SourceError> {
        match &request.scope {
            Scope::All => {
                let records = ffi::all_active(&self.connection, request.groups)
                    .map_err(|error| self.error("virConnectGetAllDomainStats", &error))?;
                Ok(self.decode(&records))
            }
            Scope::Only(ids) => self.bulk_of(ids, request),
        }
    }

    fn inventory(&mut self, request: &InventoryRequest) -> Result<InventoryReply, SourceError> {
        let versions = self.versions()?;
        let list = self.connection.domains().map_err(|error| self.error("virConnectListAllDomains", &error))?;
        let mut reply = InventoryReply { versions, peer: self.peer, ..InventoryReply::default() };
        for handle in list {
            let domain = handle.get();
            // Both are answered from the handle itself, without a call.
            let (Ok(uuid), Ok(name)) = (domain.uuid(), domain.name()) else { continue };
            let (id, run) = (DomainId::from_bytes(uuid.into_bytes()), domain.id().map(crate::model::RunId));
            let mut listed = ListedDomain { id, name: name.into(), run, state: None, description: None };
            let wanted = request.wants(id, run);
            // The state of a domain that rests is a call, and changes with its run, or with an event.
            if run.is_none() && wanted {
                match handle.state() {
                    Ok((state, reason)) => {
                        listed.state = Some(StateSample { state: Some(state.into()), reason: Some(reason.into()) });
                    }
                    Err(error) if no_domain(&error) => continue,
                    Err(error) => self.tolerate("virDomainGetState", &listed.name, &error)?,
                }
            }
            if wanted {
                match self.describe(id, &handle) {
                    Ok(description) => {
                        self.not_understood.remove(&id);
                        listed.description = Some(description);
                    }
                    Err(Undescribed::Call(error)) if no_domain(&error) => continue,
                    Err(Undescribed::Call(error)) => {
                        reply.failed_descriptions += 1;
                        self.tolerate("virDomainGetXMLDesc", &listed.name, &error)?;
                    }
                    Err(Undescribed::Xml(error)) => {
                        reply.failed_descriptions += 1;
                        if self.not_understood.insert(id) {
                            tracing::warn!(domain = %listed.name, %error, "cannot understand the domain's XML");
                        }
                    }
                }
            }
            reply.domains.push(listed);
        }
        if self.described.len() > reply.domains.len() {
            let known: HashSet<DomainId> = reply.domains.iter().map(|listed| listed.id).collect();
            self.described.retain(|id, _| known.contains(id));
        }
        Ok(reply)
    }

    fn control(&mut self, ids: &[DomainId]) -> Result<Vec<(DomainId, Control)>, SourceError> {
        self.control_of(ids)
    }

    fn cpu_stats(&mut self, ids: &[DomainId]) -> Result<BulkReply, SourceError> {
        self.cpu_totals_of(ids)
    }

    fn block_info(&mut self, id: DomainId, target: &str) -> Result<Option<BlockInfo>, SourceError> {
        self.block_info_of(id, target)
    }

    fn block_counters(&mut self, id: DomainId, targets: &[Box<str>]) -> Result<BulkReply, SourceError> {
        self.block_counters_of(id, targets)
    }

    fn leases(&mut self) -> Result<Vec<Lease>, SourceError> {
        self.connection.leases().map_err(|error| self.error("virNetworkGetDHCPLeases", &error))
    }

    fn watch(&mut self, sink: EventSink) -> Result<(), SourceError> {
        match self.connection.watch(&sink) {
            Ok(()) => Ok(()),
            Err(error) if error.code().to_raw() == sys::VIR_ERR_NO_SUPPORT => Ok(()),
            Err(error) => Err(self.error("virConnectDomainEventRegisterAny", &error)),
        }
    }

    fn peer(&self) -> Option<Peer> {
        self.peer
    }
}

impl LibvirtSource {
    pub(super) fn new(connection: Connection, decoder: Decoder, peer: Option<Peer>) -> Self {
        Self {
            handles: HashMap::new(),
            connection,
            decoder,
            versions: None,
            not_understood: HashSet::new(),
            described: HashMap::new(),
            peer,
        }
    }

    fn describe(&mut self, id: DomainId, handle: &Handle) -> Result<Arc<DomainDescription>, Undescribed> {
        let text = handle.get().xml_desc(0).map_err(Undescribed::Call)?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let print = hasher.finish();
        if let Some((_, description)) = self.described.get(&id).filter(|(known, _)| *known == print) {
            return Ok(Arc::clone(description));
        }
        let description = Arc::new(xml::describe(&text).map_err(Undescribed::Xml)?);
        self.described.insert(id, (print, Arc::clone(&description)));
        Ok(description)
    }

    fn bulk_of(&mut self, ids: &[DomainId], request: &BulkRequest) -> Result<BulkReply, SourceError> {
        self.keep_few_handles(ids);
        for id in ids {
            if !self.handles.contains_key(id) {
                self.look_up(*id)?;
            }
        }
        let handles: Vec<&Handle> = ids.iter().filter_map(|id| self.handles.get(id)).collect();
        if handles.is_empty() {
            return Ok(BulkReply::default());
        }
        let handles_asked = handles.len();
        let reply = {
            let records = ffi::of_domains(&handles, request.groups)
                .map_err(|error| self.error("virDomainListGetStats", &error))?;
            self.decode(&records)
        };
        if reply.records.len() < handles_asked {
            let answered: HashSet<DomainId> = reply.records.iter().map(|record| record.id).collect();
            ids.iter().filter(|id| !answered.contains(id)).for_each(|id| drop(self.handles.remove(id)));
        }
        Ok(reply)
    }

    /// Domains asked for long ago must not be held for ever.
    pub(super) fn keep_few_handles(&mut self, wanted: &[DomainId]) {
        if self.handles.len() > 2 * wanted.len() + IDLE_HANDLES {
            let wanted: HashSet<_> = wanted.iter().collect();
            self.handles.retain(|id, _| wanted.contains(id));
        }
    }

    /// Looks a domain up, whether its handle is kept or not; `None` if it is gone.
    pub(super) fn look_up(&mut self, id: DomainId) -> Result<Option<&Handle>, SourceError> {
        match self.connection.get().lookup_domain_by_uuid(id.uuid()) {
            Ok(domain) => Ok(Some(self.handles.entry(id).insert_entry(Handle::new(domain)).into_mut())),
            Err(error) if no_domain(&error) => {
                self.handles.remove(&id);
                Ok(None)
            }
            Err(error) => Err(self.error("virDomainLookupByUUID", &error)),
        }
    }

    fn decode(&self, records: &Records<'_>) -> BulkReply {
        let mut reply = BulkReply::default();
        for record in records.iter() {
            let Some(id) = record.id() else { continue };
            let mut size = RECORD_BYTES;
            let params = record.params().inspect(|(name, value)| size += bytes_of(name, value));
            let figures = self.decoder.figures(params, &mut reply.decode);
            reply.sizes.push((id, u32::try_from(size).unwrap_or(u32::MAX)));
            reply.records.push(DomainRecord { id, name: record.name(), run: record.run(), figures });
        }
        reply
    }

    fn versions(&mut self) -> Result<HostVersions, SourceError> {
        if let Some(versions) = &self.versions {
            return Ok(versions.clone());
        }
        let connect = self.connection.get();
        let driver = connect.driver_type().map_err(|error| self.error("virConnectGetType", &error))?;
        // Not every driver has a version; that is no reason to fail.
        let dotted = |version: Result<u32, Error>| version.map(dotted).unwrap_or_default();
        let versions = HostVersions {
            hypervisor: format!("{driver} {}", dotted(connect.hyp_version())).trim_end().into(),
            daemon: dotted(connect.lib_version()).into(),
            library: dotted(Connect::version()).into(),
        };
        self.versions = Some(versions.clone());
        Ok(versions)
    }

    pub(super) fn error(&self, call: &'static str, error: &Error) -> SourceError {
        let message = error.message().to_owned();
        // What a socket that broke during the call is reported as.
        let broken_socket =
            error.code().to_raw() == sys::VIR_ERR_SYSTEM_ERROR && error.domain().to_raw() == sys::VIR_FROM_RPC;
        if broken_socket || !self.connection.get().is_alive().unwrap_or(false) {
            SourceError::Disconnected { call, message }
        } else if error.code().to_raw() == sys::VIR_ERR_RPC && is_about_size(&message) {
            SourceError::TooLarge { call, message }
        } else {
            SourceError::Call { call, message }
        }
    }

    /// A call about one domain failed: goes on with the others, unless the connection is gone.
    fn tolerate(&self, call: &'static str, domain: &str, error: &Error) -> Result<(), SourceError> {
        match self.error(call, error) {
            error @ SourceError::Disconnected { .. } => Err(error),
            error => {
                tracing::warn!(domain, %error, "one domain is left out of the inventory's details");
                Ok(())
            }
        }
    }
}

/// What libvirt says in its own words when a message would be larger than its protocol admits: libvirtd of a reply, and
/// libvirt.so of a request or of a list with too many domains.
fn is_about_size(message: &str) -> bool {
    ["encode message payload", "too large", "too many", "Too many"].iter().any(|words| message.contains(words))
}

/// A record in libvirt's message: the domain's name, UUID and id, and the number of parameters.
const RECORD_BYTES: usize = 64;

/// About what a typed parameter takes in libvirt's message: name and text are padded to four bytes.
fn bytes_of(name: &[u8], value: &Value<'_>) -> usize {
    let padded = |length: usize| 4 + length.next_multiple_of(4);
    let value = match value {
        Value::Text(text) => padded(text.len()),
        _ => 8,
    };
    padded(name.len()) + 4 + value
}

enum Undescribed {
    Call(Error),
    Xml(xml::XmlError),
}

/// Did the domain go away between the list and the call? That happens, and is no error.
pub(super) fn no_domain(error: &Error) -> bool {
    error.code().to_raw() == sys::VIR_ERR_NO_DOMAIN
}

fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}
