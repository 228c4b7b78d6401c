//! Where devices get their names: the one on the host, else the MAC address, else the index, and never the same twice, since
//! one duplicate series makes Prometheus refuse the whole scrape.

use std::collections::HashSet;

/// Gives each device a name that no other device of the domain has.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// That name, unless it is taken.
    pub(super) fn only(&mut self, name: &str) -> Option<String> {
        self.taken.insert(name.to_owned()).then(|| name.to_owned())
    }

    /// The first candidate that is neither empty nor another device's, else the kind and index; `None` if even that is
    /// taken.
    pub(super) fn take(&mut self, index: u32, candidates: &[Option<&str>], kind: &str) -> Option<String> {
        let last = format!("{kind}{index}");
        let said = candidates.iter().flatten().copied().filter(|name| !name.is_empty());
        said.chain([last.as_str()]).find(|name| self.taken.insert((*name).to_owned())).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_fall_back_on_mac_and_index_and_never_share_a_name() {
        let mut names = Names::default();
        assert_eq!(names.take(0, &[Some("vnet0"), None], "nic").as_deref(), Some("vnet0"));
        assert_eq!(
            names.take(1, &[None, Some(""), Some("52:54:00:00:00:01")], "nic").as_deref(),
            Some("52:54:00:00:00:01")
        );
        assert_eq!(names.take(2, &[Some(""), None], "nic").as_deref(), Some("nic2"));
        assert_eq!(
            names.take(3, &[Some("vnet0"), Some("52:54:00:00:00:03")], "nic").as_deref(),
            Some("52:54:00:00:00:03")
        );
        assert_eq!(names.take(4, &[Some("nic5")], "nic").as_deref(), Some("nic5"));
        assert_eq!(names.take(5, &[Some("vnet0")], "nic"), None, "nothing is left to call it");
    }
}
