//! Names: as the programs that manage guests give them, and on a few the odd ones that libvirt allows as well.

use super::random::{Random, pick, uuid_text};
use super::shape::Manager;

const ROLES: &[(u32, &str)] = &[
    (6, "web"),
    (5, "db"),
    (4, "build"),
    (4, "cache"),
    (3, "mail"),
    (3, "batch"),
    (3, "vdi"),
    (2, "gitlab"),
    (2, "monitoring"),
    (2, "ldap"),
    (2, "Win2022"),
    (1, "jump"),
];

const STAGES: &[(u32, &str)] = &[(6, "prod"), (3, "test"), (2, "dev"), (1, "staging")];

/// One of this many guests has an odd name.
const ODD_EVERY: u32 = 24;

/// How long a long name is, in bytes; libvirt makes file names of them.
const LONG: usize = 200;

/// The name of the guest of this number, which makes it another than all others.
pub(super) fn name(random: &mut Random, manager: Manager, number: u32) -> String {
    if number % ODD_EVERY == ODD_EVERY - 1 {
        return odd(random, number / ODD_EVERY, number);
    }
    let role = pick(random, ROLES);
    let stage = pick(random, STAGES);
    match manager {
        Manager::Nova => format!("instance-{number:08x}"),
        Manager::Ovirt => format!("{role}-{stage}-{number:03}"),
        Manager::KubeVirt => format!("{stage}_{role}-{number}"),
        Manager::Plain => format!("{role}{number:02}.{stage}.example.com"),
    }
}

fn odd(random: &mut Random, kind: u32, number: u32) -> String {
    match kind % 16 {
        0 => format!("web server {number}"),
        1 => format!("say \"hello\" {number}"),
        2 => format!("R&D {number}"),
        3 => format!("a<b>{number}"),
        4 => format!("it's {number}"),
        5 => format!("Müller-Büro-{number}"),
        6 => format!("仮想マシン-{number}"),
        7 => format!("🚀 launch 🚀 {number}"),
        8 => long("long-", number),
        9 => long("ж", number),
        10 => uuid_text(random),
        11 => format!("{}", 10_000_000 + u64::from(number)),
        12 => format!("back\\slash {{{number}}} 100% $HOME ; `id`"),
        13 => format!(" blanks around {number} "),
        14 => format!("tab\there {number}"),
        _ => format!("&amp;#{number};"),
    }
}

fn long(part: &str, number: u32) -> String {
    let end = number.to_string();
    part.repeat((LONG - end.len()) / part.len()) + &end
}

/// Does libvirt take it? (Other control characters than the tab can not be written in XML.)
pub(super) fn is_legal(name: &str) -> bool {
    !name.is_empty() && !name.contains(|letter: char| letter == '/' || (letter.is_control() && letter != '\t'))
}
