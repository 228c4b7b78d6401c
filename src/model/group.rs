//! The stats groups: what can be asked for, and aged, apart from the rest.

/// One group of figures of a domain. The labels are a closed list that users rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Run state and its reason.
    State,
    /// CPU time of the whole domain.
    Cpu,
    /// CPU time, wait and delay of each vCPU.
    Vcpu,
    /// Network counters of each NIC.
    Interface,
    /// Counters and sizes of each disk.
    Block,
    /// Memory, as the balloon and the host see it.
    Balloon,
    /// Sizes of each disk, asked for disk by disk: a call can hang on storage that does not answer.
    BlockInfo,
    /// What the host's kernel says of the domain's process, without libvirt. It feeds [`Group::SHARED`] too.
    Kernel,
}

impl Group {
    /// Every group, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::State,
        Self::Cpu,
        Self::Vcpu,
        Self::Interface,
        Self::Block,
        Self::Balloon,
        Self::BlockInfo,
        Self::Kernel,
    ];

    /// The groups that a bulk call brings.
    pub const BULK: [Self; 6] = [Self::State, Self::Cpu, Self::Vcpu, Self::Interface, Self::Block, Self::Balloon];

    /// The groups that the kernel tells as well as libvirt does.
    pub const SHARED: [Self; 3] = [Self::Cpu, Self::Vcpu, Self::Interface];

    /// The value of a `group` label, and the name in the configuration.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Cpu => "cpu",
            Self::Vcpu => "vcpu",
            Self::Interface => "interface",
            Self::Block => "block",
            Self::Balloon => "balloon",
            Self::BlockInfo => "block_info",
            Self::Kernel => "kernel",
        }
    }

    /// Does a bulk call bring it?
    #[must_use]
    pub fn is_bulk(self) -> bool {
        Self::BULK.contains(&self)
    }

    /// Does asking for it wait for QEMU's monitor, so that one hung QEMU can hold the call? CPU does because of the halt
    /// polling figures that libvirt asks QEMU for along with it.
    #[must_use]
    pub fn enters_monitor(self) -> bool {
        match self {
            Self::Cpu | Self::Vcpu | Self::Block | Self::Balloon | Self::BlockInfo => true,
            Self::State | Self::Interface | Self::Kernel => false,
        }
    }

    /// The group of that label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.label() == label)
    }
}

/// A set of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupSet(u16);

impl GroupSet {
    /// No group.
    pub const EMPTY: Self = Self(0);

    /// Just this group.
    #[must_use]
    pub fn of(group: Group) -> Self {
        Self(Self::bit(group))
    }

    /// Is nothing in it?
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Is that group in it?
    #[must_use]
    pub fn contains(self, group: Group) -> bool {
        self.0 & Self::bit(group) != 0
    }

    /// Adds a group.
    pub fn insert(&mut self, group: Group) {
        self.0 |= Self::bit(group);
    }

    /// Takes a group out.
    pub fn remove(&mut self, group: Group) {
        self.0 &= !Self::bit(group);
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The groups in it, in the order of [`Group::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Group> {
        Group::ALL.into_iter().filter(move |group| self.contains(*group))
    }

    fn bit(group: Group) -> u16 {
        1 << (group as u16)
    }
}

impl FromIterator<Group> for GroupSet {
    fn from_iter<I: IntoIterator<Item = Group>>(groups: I) -> Self {
        let mut set = Self::EMPTY;
        for group in groups {
            set.insert(group);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_lead_back() {
        for group in Group::ALL {
            assert_eq!(Group::from_label(group.label()), Some(group));
        }
        assert_eq!(Group::from_label("cpu_total"), None);
    }

    #[test]
    fn every_group_but_block_info_and_the_kernel_s_is_brought_by_bulk_calls() {
        let others: Vec<Group> = Group::ALL.into_iter().filter(|group| !group.is_bulk()).collect();
        assert_eq!(others, [Group::BlockInfo, Group::Kernel]);
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: GroupSet = [Group::Block, Group::State].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Group::State, Group::Block]);
        assert!(set.without(set).is_empty());
        let only_block = set.without([Group::State].into_iter().collect());
        assert!(only_block.contains(Group::Block) && !only_block.contains(Group::State));
    }
}
