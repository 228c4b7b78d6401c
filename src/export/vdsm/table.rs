//! Records as tables of fields: from a table a record is written, and docs/ovirt.md is generated.

use super::text::Slot;

/// A kind of record, and what it is written from.
pub(super) trait Record {
    /// What is known of one.
    type Of<'a>;
}

/// How a value is written in JSON. VDSM writes many numbers as strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Json {
    String,
    Number,
    Boolean,
    /// A record of its own.
    Object,
    /// Records by name.
    Map,
    /// Records in order.
    List,
}

impl Json {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Map => "map",
            Self::List => "list",
        }
    }
}

/// One field of a record.
pub(super) struct Field<R: Record> {
    pub(super) name: &'static str,
    pub(super) json: Json,
    pub(super) unit: &'static str,
    /// What it is, where it is from, and when it is left out.
    pub(super) what: &'static str,
    pub(super) write: Write<R>,
}

/// Writes a value, or leaves it out: `None`.
pub(super) type Write<R> = for<'a, 's> fn(&<R as Record>::Of<'a>, Slot<'s>) -> Option<()>;

impl<R: Record> Field<R> {
    pub(super) const fn new(
        name: &'static str,
        json: Json,
        unit: &'static str,
        what: &'static str,
        write: Write<R>,
    ) -> Self {
        Self { name, json, unit, what, write }
    }

    pub(super) const fn string(name: &'static str, unit: &'static str, what: &'static str, write: Write<R>) -> Self {
        Self::new(name, Json::String, unit, what, write)
    }

    pub(super) const fn number(name: &'static str, unit: &'static str, what: &'static str, write: Write<R>) -> Self {
        Self::new(name, Json::Number, unit, what, write)
    }
}

/// Writes a record.
pub(super) fn write<R: Record>(fields: &[Field<R>], of: &R::Of<'_>, out: &mut Vec<u8>) {
    write_all(&[fields], of, out);
}

/// Writes a record whose fields stand in several tables.
pub(super) fn write_all<R: Record>(tables: &[&[Field<R>]], of: &R::Of<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    let begin = out.len();
    for field in tables.iter().copied().flatten() {
        // A value that is not known leaves its key out.
        let _ = (field.write)(of, Slot::new(out, begin, field.name));
    }
    out.push(b'}');
}

/// A field without what it is read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) json: Json,
    pub(super) unit: &'static str,
    pub(super) what: &'static str,
}

/// The fields of a record, for whoever describes them.
pub(super) fn rows<R: Record>(fields: &[Field<R>]) -> Vec<Row> {
    fields.iter().map(|it| Row { name: it.name, json: it.json, unit: it.unit, what: it.what }).collect()
}
