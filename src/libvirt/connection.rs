//! One read-only connection to libvirt, as a source.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Once};

use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

use super::decode::Decoder;
use super::ffi::{self, Connection, Handle, Records};
use super::xml;
use crate::model::{
    BulkReply, BulkRequest, DomainDescription, DomainId, DomainRecord, HostVersions, InventoryReply, InventoryRequest,
    ListedDomain, Scope, Source, SourceError, SourceFactory, StateSample,
};

static SILENCE: Once = Once::new();

/// Opens read-only connections to one URI.
pub struct LibvirtFactory {
    uri: String,
    decoder: Decoder,
}

impl LibvirtFactory {
    /// For a libvirt URI, such as `qemu:///system`.
    #[must_use]
    pub fn new(uri: String) -> Self {
        // Otherwise libvirt prints every error to stderr beside our own log.
        SILENCE.call_once(virt::error::clear_error_callback);
        Self { uri, decoder: Decoder::default() }
    }
}

impl SourceFactory for LibvirtFactory {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        let connect = Connect::open_read_only(Some(&self.uri))
            .map_err(|error| SourceError::Connect { uri: self.uri.clone(), message: error.message().to_owned() })?;
        Ok(Box::new(LibvirtSource {
            // Handles before the connection: fields are dropped in this order.
            handles: HashMap::new(),
            connection: Connection::new(connect),
            decoder: self.decoder.clone(),
            versions: None,
            not_understood: HashSet::new(),
        }))
    }
}

struct LibvirtSource {
    /// Handles are good on their own connection only, so each source keeps those it has looked up.
    handles: HashMap<DomainId, Handle>,
    connection: Connection,
    decoder: Decoder,
    versions: Option<HostVersions>,
    /// Domains whose XML was complained about; once is enough.
    not_understood: HashSet<DomainId>,
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
        let list = self
            .connection
            .get()
            .list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE | sys::VIR_CONNECT_LIST_DOMAINS_INACTIVE)
            .map_err(|error| self.error("virConnectListAllDomains", &error))?;
        let mut reply = InventoryReply { versions, ..InventoryReply::default() };
        for handle in list.into_iter().map(Handle::new) {
            let domain = handle.get();
            // Both are answered from the handle itself, without a call.
            let (Ok(uuid), Ok(name)) = (domain.uuid(), domain.name()) else { continue };
            let (id, run) = (DomainId::from_bytes(uuid.into_bytes()), domain.id().map(crate::model::RunId));
            let mut listed = ListedDomain { id, name: name.into(), run, state: None, description: None };
            if run.is_none() {
                match handle.state() {
                    Ok((state, reason)) => {
                        listed.state = Some(StateSample { state: Some(state.into()), reason: Some(reason.into()) });
                    }
                    Err(error) if no_domain(&error) => continue,
                    Err(error) => self.tolerate("virDomainGetState", &listed.name, &error)?,
                }
            }
            if request.wants(id, run) {
                match describe(&handle) {
                    Ok(description) => {
                        self.not_understood.remove(&id);
                        listed.description = Some(Arc::new(description));
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
        Ok(reply)
    }
}

impl LibvirtSource {
    fn bulk_of(&mut self, ids: &[DomainId], request: &BulkRequest) -> Result<BulkReply, SourceError> {
        // Domains asked for long ago must not be held for ever.
        if self.handles.len() > 2 * ids.len() + 64 {
            self.handles.retain(|id, _| ids.contains(id));
        }
        for id in ids {
            if !self.handles.contains_key(id) {
                match self.connection.get().lookup_domain_by_uuid(id.uuid()) {
                    Ok(domain) => {
                        self.handles.insert(*id, Handle::new(domain));
                    }
                    Err(error) if no_domain(&error) => {}
                    Err(error) => return Err(self.error("virDomainLookupByUUID", &error)),
                }
            }
        }
        let handles: Vec<&Handle> = ids.iter().filter_map(|id| self.handles.get(id)).collect();
        if handles.is_empty() {
            return Ok(BulkReply::default());
        }
        let reply = {
            let records = ffi::of_domains(&handles, request.groups)
                .map_err(|error| self.error("virDomainListGetStats", &error))?;
            self.decode(&records)
        };
        for id in ids {
            if !reply.records.iter().any(|record| record.id == *id) {
                self.handles.remove(id);
            }
        }
        Ok(reply)
    }

    fn decode(&self, records: &Records<'_>) -> BulkReply {
        let mut reply = BulkReply::default();
        for record in records.iter() {
            let Some(id) = record.id() else { continue };
            let figures = self.decoder.figures(record.params(), &mut reply.decode);
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

    fn error(&self, call: &'static str, error: &Error) -> SourceError {
        let message = error.message().to_owned();
        // What a socket that broke during the call is reported as.
        let broken_socket =
            error.code().to_raw() == sys::VIR_ERR_SYSTEM_ERROR && error.domain().to_raw() == sys::VIR_FROM_RPC;
        if broken_socket || !self.connection.get().is_alive().unwrap_or(false) {
            SourceError::Disconnected { call, message }
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

enum Undescribed {
    Call(Error),
    Xml(xml::XmlError),
}

fn describe(handle: &Handle) -> Result<DomainDescription, Undescribed> {
    let text = handle.get().xml_desc(0).map_err(Undescribed::Call)?;
    xml::describe(&text).map_err(Undescribed::Xml)
}

/// Did the domain go away between the list and the call? That happens, and is no error.
fn no_domain(error: &Error) -> bool {
    error.code().to_raw() == sys::VIR_ERR_NO_DOMAIN
}

fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}
