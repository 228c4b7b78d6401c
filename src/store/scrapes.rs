//! Who scraped when, on its way from the HTTP server to the scheduler.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;

/// Notes that wait at most: a scheduler that looks every few seconds finds those of a dozen scrapers and of some people.
const WAITING: usize = 64;

/// Notes of one client that wait at most, so that one that asks without end takes no place from the others.
const OF_ONE: usize = 16;

/// One client of /metrics, as far as it can be told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScraperId {
    /// Where it comes from.
    pub address: IpAddr,
    /// Hash of its User-Agent: a person's curl on the Prometheus host is another client.
    pub agent: u64,
}

/// A queue of fixed size. What finds no place is lost; only the client that is followed always finds one.
#[derive(Debug)]
pub(super) struct Scrapes {
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    queue: VecDeque<(ScraperId, Instant)>,
    followed: Option<ScraperId>,
}

impl Scrapes {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { queue: VecDeque::with_capacity(WAITING), followed: None }) }
    }

    pub(super) fn note(&self, client: ScraperId, at: Instant) {
        let Waiting { queue, followed } = &mut *self.waiting.lock();
        if queue.iter().filter(|(known, _)| *known == client).count() >= OF_ONE {
            return;
        }
        if queue.len() == WAITING {
            if *followed != Some(client) {
                return;
            }
            queue.pop_back();
        }
        queue.push_back((client, at));
    }

    pub(super) fn take(&self, followed: Option<ScraperId>) -> Vec<(ScraperId, Instant)> {
        let mut waiting = self.waiting.lock();
        waiting.followed = followed;
        waiting.queue.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(number: u64) -> ScraperId {
        ScraperId { address: [10, 0, 0, 1].into(), agent: number }
    }

    #[test]
    fn scrapes_are_taken_once_and_in_order() {
        let (scrapes, start) = (Scrapes::new(), Instant::now());
        let noted = [(client(1), start), (client(2), start + Duration::from_secs(1))];
        noted.iter().for_each(|(client, at)| scrapes.note(*client, *at));
        assert_eq!(scrapes.take(None), noted);
        assert_eq!(scrapes.take(None), []);
    }

    #[test]
    fn a_flood_is_lost_and_one_client_alone_does_not_fill_the_queue() {
        let (scrapes, start) = (Scrapes::new(), Instant::now());
        (0..1000).for_each(|_| scrapes.note(client(1), start));
        scrapes.note(client(2), start);
        let taken = scrapes.take(Some(client(5000)));
        assert_eq!((taken.len(), taken.last()), (OF_ONE + 1, Some(&(client(2), start))));
        (0..1000).for_each(|number| scrapes.note(client(number), start));
        scrapes.note(client(5000), start);
        let capacity = scrapes.waiting.lock().queue.capacity();
        let taken = scrapes.take(None);
        assert_eq!((taken.len(), capacity), (WAITING, WAITING));
        assert_eq!(taken.last(), Some(&(client(5000), start)), "who is followed is heard all the same");
    }
}
