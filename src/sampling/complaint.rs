//! One fault that lasts is one line in the log, not one a period.

use std::time::{Duration, Instant};

/// How often a fault that goes on is logged again.
const REPEAT: Duration = Duration::from_secs(300);

/// Remembers what was last complained about.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    last: Option<(String, Instant)>,
}

impl Complaint {
    /// Is this worth a line: new, other than before, or long ago?
    pub(super) fn is_news(&mut self, text: &str, now: Instant) -> bool {
        if let Some((last, at)) = &self.last
            && last == text
            && now.saturating_duration_since(*at) < REPEAT
        {
            return false;
        }
        self.last = Some((text.to_owned(), now));
        true
    }

    /// The fault is over; says whether there was one.
    pub(super) fn settle(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_news_once_in_five_minutes() {
        let start = Instant::now();
        let mut complaint = Complaint::default();
        assert!(complaint.is_news("gone", start));
        assert!(!complaint.is_news("gone", start + Duration::from_secs(299)));
        assert!(complaint.is_news("gone", start + Duration::from_secs(300)));
        assert!(complaint.is_news("refused", start + Duration::from_secs(301)));
        assert!(complaint.settle() && !complaint.settle());
        assert!(complaint.is_news("refused", start + Duration::from_secs(302)));
    }
}
