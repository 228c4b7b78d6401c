//! Which fields of a domain are written.

use crate::model::Group;

/// The fields that can be chosen: those of a domain's object, and the groups of its samples.
const NAMES: [&str; 25] = [
    "uuid",
    "name",
    "running",
    "pid",
    "state",
    "state_code",
    "state_reason_code",
    "responsive",
    "unresponsive_since",
    "unresponsive_seconds",
    "blocked_call",
    "blocked_storage",
    "standing",
    "life",
    "description",
    "samples",
    "samples.state",
    "samples.cpu",
    "samples.vcpu",
    "samples.interface",
    "samples.block",
    "samples.balloon",
    "samples.block_info",
    "samples.kernel",
    MINUTE,
];

/// What goes with the samples of CPU and NICs.
const MINUTE: &str = "minute";

const SAMPLES: &str = "samples";

/// A choice of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fields(u32);

impl Fields {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);
    /// None of them.
    pub(super) const NONE: Self = Self(0);
    /// UUID and name, the first two.
    pub(super) const NAMES: Self = Self(0b11);

    /// Their names, in the order in which they are written.
    #[must_use]
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// Reads names with commas between them.
    ///
    /// # Errors
    /// A sentence about the first name that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut chosen = Self(0);
        for name in text.split(',') {
            let Some(chosen_bit) = bit(name) else {
                return Err(format!("{name:?} is no field to choose; there are {}", NAMES.join(", ")));
            };
            chosen.0 |= chosen_bit;
            if name == SAMPLES {
                chosen = Group::ALL.into_iter().fold(chosen, |chosen, group| chosen.or(Self::group(group)));
            }
        }
        Ok(chosen)
    }

    /// A group of samples.
    pub(super) fn group(group: Group) -> Self {
        Self(bit(&format!("samples.{}", group.label())).unwrap_or_default())
    }

    /// The rates of the last minute.
    pub(super) fn minute() -> Self {
        Self(bit(MINUTE).unwrap_or_default())
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Is that one chosen? A name that is not in the list is not.
    #[must_use]
    pub(super) fn has(self, name: &str) -> bool {
        self == Self::ALL || bit(name).is_some_and(|bit| self.0 & bit != 0)
    }

    /// The value, if that field is chosen.
    pub(super) fn then<T>(self, name: &str, value: T) -> Option<T> {
        self.has(name).then_some(value)
    }

    /// Is any group of the samples chosen?
    pub(super) fn any_samples(self) -> bool {
        NAMES.iter().any(|name| name.starts_with(SAMPLES) && self.has(name))
    }
}

fn bit(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).map(|place| 1 << place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_chosen_by_name() {
        let fields = Fields::parse("name,samples.cpu").expect("good");
        assert!(fields.has("name") && fields.has("samples.cpu"));
        assert!(!fields.has("uuid") && !fields.has("samples.block") && !fields.has("samples"));
        assert!(fields.any_samples());
        let fields = Fields::parse("samples").expect("good");
        assert!(fields.has("samples.balloon") && !fields.has("name"));
        assert!(!Fields::parse("uuid").expect("good").any_samples());
        assert_eq!(Fields::NAMES, Fields::parse("uuid,name").expect("good"));
        assert!(Group::ALL.iter().all(|group| !Fields::group(*group).is_empty()));
        assert!(NAMES.iter().all(|name| Fields::ALL.has(name)));
    }

    #[test]
    fn what_is_no_field_is_named() {
        for bad in ["", "nam", "name,", "samples.", "samples.cpu.time_ns", "NAME"] {
            let error = Fields::parse(bad).expect_err("no field");
            assert!(error.contains("is no field to choose; there are uuid, name"), "{bad}: {error}");
        }
    }
}
