//! Which domains a list is about: libvirt's flags in groups, of which each must be met by one of its flags.

use crate::host::Guest;

const ACTIVE: u32 = 1 << 0;
const INACTIVE: u32 = 1 << 1;
const PERSISTENT: u32 = 1 << 2;
const TRANSIENT: u32 = 1 << 3;
const RUNNING: u32 = 1 << 4;
const PAUSED: u32 = 1 << 5;
const SHUTOFF: u32 = 1 << 6;
const OTHER: u32 = 1 << 7;
const MANAGED_SAVE: u32 = 1 << 8;
const NO_MANAGED_SAVE: u32 = 1 << 9;
const AUTOSTART: u32 = 1 << 10;
const NO_AUTOSTART: u32 = 1 << 11;
const HAS_SNAPSHOT: u32 = 1 << 12;
const NO_SNAPSHOT: u32 = 1 << 13;
const HAS_CHECKPOINT: u32 = 1 << 14;
const NO_CHECKPOINT: u32 = 1 << 15;

/// Is a guest meant by these flags?
pub(super) fn matches(guest: &Guest, flags: u32) -> bool {
    let state = match guest.state().0 {
        1 => RUNNING,
        3 => PAUSED,
        5 => SHUTOFF,
        _ => OTHER,
    };
    let is = state
        | if guest.is_running() { ACTIVE } else { INACTIVE }
        | if guest.is_persistent() { PERSISTENT } else { TRANSIENT }
        // No guest of ours has any of these.
        | NO_MANAGED_SAVE
        | NO_AUTOSTART
        | NO_SNAPSHOT
        | NO_CHECKPOINT;
    let groups = [
        ACTIVE | INACTIVE,
        PERSISTENT | TRANSIENT,
        RUNNING | PAUSED | SHUTOFF | OTHER,
        MANAGED_SAVE | NO_MANAGED_SAVE,
        AUTOSTART | NO_AUTOSTART,
        HAS_SNAPSHOT | NO_SNAPSHOT,
        HAS_CHECKPOINT | NO_CHECKPOINT,
    ];
    groups.iter().all(|group| flags & group == 0 || flags & group & is != 0)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::host::{Host, Plan};

    #[test]
    fn each_group_of_flags_must_be_met() {
        let host = Host::new(Plan { seed: 1, domains: 200, shut_off_per_mille: 500, begun: SystemTime::UNIX_EPOCH });
        let count = |flags| host.guests().filter(|guest| matches(guest, flags)).count();
        let (active, inactive) = (count(ACTIVE), count(INACTIVE));
        assert!(active > 0 && inactive > 0);
        assert_eq!(active + inactive, 200);
        assert_eq!((count(0), count(ACTIVE | INACTIVE)), (200, 200));
        assert_eq!((count(ACTIVE | SHUTOFF), count(INACTIVE | SHUTOFF)), (0, inactive));
        assert_eq!((count(MANAGED_SAVE), count(NO_MANAGED_SAVE | MANAGED_SAVE)), (0, 200));
    }
}
