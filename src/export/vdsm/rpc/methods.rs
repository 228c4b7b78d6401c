//! What can be called: a table, from which calls are made and docs/ovirt.md is generated.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{Problem, short};
use super::request::elements;
use crate::model::DomainId;

/// A method.
#[derive(Debug)]
pub struct Method {
    /// As it is called.
    pub name: &'static str,
    /// In the order in which they can be given.
    pub parameters: &'static [Parameter],
    /// What it answers, in a line.
    pub purpose: &'static str,
    task: fn(&[Option<&RawValue>]) -> Result<Task, Problem>,
}

/// A parameter of a method.
#[derive(Debug)]
pub struct Parameter {
    /// As it is named in an object.
    pub name: &'static str,
    /// Is it an error if it is not there?
    pub required: bool,
}

/// What is to be done for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Ping,
    HostStats,
    Network,
    AllVmStats,
    /// Of the domain with this UUID.
    VmStats(Box<str>),
    /// Of these, or of all if there are none.
    VmList(Vec<DomainId>),
}

const VM_ID: &str = "vmID";
const VM_LIST: &str = "vmList";
/// No element of a list that is a UUID is shorter, the comma included. So a list of other things is not kept in memory.
const SHORTEST: usize = 35;

/// All of them.
pub const METHODS: &[Method] = &[
    Method { name: "Host.getStats", parameters: &[], purpose: "the HostStats", task: |_| Ok(Task::HostStats) },
    Method {
        name: "Host.getAllVmStats",
        parameters: &[],
        purpose: "a list with the VmStats of each VM",
        task: |_| Ok(Task::AllVmStats),
    },
    Method {
        name: "VM.getStats",
        parameters: &[Parameter { name: VM_ID, required: true }],
        purpose: "a list with the VmStats of that VM, also of one that is shut off",
        task: |values| match values {
            [Some(id)] => vm_id(id).map(Task::VmStats),
            _ => Err(Problem::Missing(VM_ID)),
        },
    },
    Method {
        name: "Host.getVMList",
        parameters: &[
            Parameter { name: VM_LIST, required: false },
            Parameter { name: "fullStatus", required: false },
            Parameter { name: "onlyUUID", required: false },
        ],
        purpose: "a list with vmId, status and statusTime of each VM, or of those of vmList that are there; fullStatus and onlyUUID have no effect",
        task: |values| match values {
            [Some(list), ..] => vm_list(list).map(Task::VmList),
            _ => Ok(Task::VmList(Vec::new())),
        },
    },
    Method {
        name: "Host.getNetworkStatistics",
        parameters: &[],
        purpose: "network, rxDropped and txDropped of the HostStats",
        task: |_| Ok(Task::Network),
    },
    Method { name: "Host.ping", parameters: &[], purpose: "true", task: |_| Ok(Task::Ping) },
    Method { name: "Host.ping2", parameters: &[], purpose: "true", task: |_| Ok(Task::Ping) },
];

impl Method {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name)
    }

    /// What a call with these parameters asks for. They are a list or an object.
    pub(super) fn task(&self, parameters: Option<&RawValue>) -> Result<Task, Problem> {
        let values = match parameters.map(RawValue::get) {
            None => Vec::new(),
            Some(text) if text.starts_with('[') => self.by_position(text)?,
            Some(text) => self.by_name(text)?,
        };
        (self.task)(&values)
    }

    fn by_position<'r>(&self, text: &'r str) -> Result<Vec<Option<&'r RawValue>>, Problem> {
        let most = self.parameters.len();
        let given = elements(text, most).ok_or(Problem::NoRequest("the parameters are no list"))?;
        if given.count > most {
            let reason = format!("{} takes {most} parameters at most, and {} are given", self.name, given.count);
            return Err(Problem::Parameters(reason.into()));
        }
        Ok(given.first.into_iter().map(Some).collect())
    }

    fn by_name<'r>(&self, text: &'r str) -> Result<Vec<Option<&'r RawValue>>, Problem> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let not_text = || Problem::Parameters("the name of a parameter is no Unicode text".into());
        Named(self).deserialize(&mut deserializer).map_err(|_| not_text())?
    }
}

/// Values by the places of their names.
struct Named<'m>(&'m Method);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Result<Vec<Option<&'de RawValue>>, Problem>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Result<Vec<Option<&'de RawValue>>, Problem>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("parameters by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self(method) = self;
        let mut values = vec![None; method.parameters.len()];
        let mut problem = None;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let place = method.parameters.iter().position(|parameter| parameter.name == name);
            match place.and_then(|place| values.get_mut(place)) {
                Some(value @ None) => *value = Some(map.next_value()?),
                found => {
                    map.next_value::<IgnoredAny>()?;
                    let what = if found.is_some() { "is given twice" } else { "is none of its parameters" };
                    let reason = || format!("{}: {} {what}", method.name, short(&name));
                    problem.get_or_insert_with(|| Problem::Parameters(reason().into()));
                }
            }
        }
        Ok(problem.map_or(Ok(values), Err))
    }
}

/// The text of a JSON string.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A UUID that is required.
fn vm_id(value: &RawValue) -> Result<Box<str>, Problem> {
    if ["null", "\"\""].contains(&value.get()) {
        return Err(Problem::Empty(VM_ID));
    }
    let text = text(value).ok_or(Problem::Invalid(VM_ID, "it is no string"))?;
    DomainId::parse(&text).ok_or(Problem::Invalid(VM_ID, "it is no UUID"))?;
    Ok(text.into())
}

/// UUIDs, if there are any. An empty list means all VMs in VDSM, and so does null.
fn vm_list(value: &RawValue) -> Result<Vec<DomainId>, Problem> {
    if value.get() == "null" {
        return Ok(Vec::new());
    }
    let most = value.get().len() / SHORTEST + 1;
    let given = elements(value.get(), most).ok_or(Problem::Invalid(VM_LIST, "it is no list"))?;
    let id = |value: &&RawValue| {
        let text = text(value).ok_or(Problem::Invalid(VM_LIST, "an element is no string"))?;
        DomainId::parse(&text).ok_or(Problem::Invalid(VM_LIST, "an element is no UUID"))
    };
    let ids = given.first.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    if given.count > most { Err(Problem::Invalid(VM_LIST, "an element is no UUID")) } else { Ok(ids) }
}
