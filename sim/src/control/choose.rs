//! Which guests a command is about.

use super::CommandError;
use crate::command::Guests;
use crate::faults::Uuid;
use crate::host::{Guest, Host};
use crate::values::glob;

/// Is there a guest that a name or a pattern means?
pub(crate) fn exists(host: &Host, pattern: &str) -> bool {
    host.by_name(pattern).is_some() || host.guests().any(|guest| glob(pattern, guest.name()))
}

/// The guests that are meant; of those that a count chooses from, the ones for which `fits` says so.
pub(super) fn choose(host: &Host, guests: &Guests, fits: impl Fn(&Guest) -> bool) -> Result<Vec<Uuid>, CommandError> {
    let Guests { domain, count, all } = guests;
    if *all && (domain.is_some() || count.is_some()) {
        return Err(CommandError::Contradiction("all guests, and a domain or a count: say one of them"));
    }
    if !all && domain.is_none() && count.is_none() {
        return Err(CommandError::NobodyChosen);
    }
    if let Some(pattern) = domain.as_ref().filter(|pattern| !exists(host, pattern)) {
        return Err(CommandError::NoDomain(pattern.clone()));
    }
    let named = |guest: &&Guest| domain.as_ref().is_none_or(|pattern| glob(pattern, guest.name()));
    let one = domain.as_ref().is_some_and(|name| host.by_name(name).is_some());
    let count = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    // Who is named alone is meant in any case, so that a reason can be given why not.
    let chosen = host.guests().filter(named).filter(|guest| one || fits(guest)).take(count);
    Ok(chosen.map(|guest| *guest.uuid()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::SystemTime;

    use super::*;
    use crate::host::Plan;

    fn host() -> Host {
        Host::new(Plan { seed: 1, domains: 20, shut_off_per_mille: 0, begun: SystemTime::UNIX_EPOCH })
    }

    fn count(guests: &Guests) -> Result<usize, CommandError> {
        choose(&host(), guests, |_| true).map(|chosen| chosen.len())
    }

    #[test]
    fn by_name_by_pattern_by_number_and_all() {
        let name = host().guests().nth(3).unwrap().name().to_owned();
        assert_eq!(count(&Guests::named(&name)), Ok(1));
        assert_eq!(count(&Guests::named("*")), Ok(20));
        assert_eq!(count(&Guests::some(7)), Ok(7));
        assert_eq!(count(&Guests::some(70)), Ok(20));
        assert_eq!(count(&Guests::all()), Ok(20));
        assert_eq!(count(&Guests { domain: Some("*".to_owned()), count: Some(2), all: false }), Ok(2));
    }

    #[test]
    fn nobody_is_meant_by_mistake() {
        assert_eq!(count(&Guests::default()), Err(CommandError::NobodyChosen));
        assert_eq!(count(&Guests::named("nobody-*")), Err(CommandError::NoDomain("nobody-*".to_owned())));
        assert!(count(&Guests { count: Some(1), ..Guests::all() }).is_err());
    }
}
