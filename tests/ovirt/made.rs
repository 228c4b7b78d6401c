//! A host of our own making with one guest.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use virtstatd::clock::ManualClock;
use virtstatd::export::vdsm::{HostBody, Rpc, View};
use virtstatd::model::{
    BulkReply, BulkRequest, DomainDescription, DomainEvent, DomainId, DomainRecord, Figures, Group, Happened,
    InventoryReply, ListedDomain, Process, ProcessState, RunId, Scope, StateSample,
};
use virtstatd::store::{StaleAfter, Store};

pub(crate) const ID: DomainId = DomainId::from_bytes([7; 16]);
pub(crate) const RUN: RunId = RunId(3);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Made {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<Store>,
}

impl Made {
    /// A guest that runs.
    pub(crate) fn new(description: DomainDescription) -> Self {
        let made = Self::nothing();
        made.list(Some(RUN), None, Some(description));
        made
    }

    /// A host without guests.
    pub(crate) fn nothing() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = Arc::new(Store::new(Arc::<ManualClock>::clone(&clock)));
        let mut stale_after = StaleAfter::default();
        for group in Group::ALL {
            stale_after.set(group, Duration::from_millis(37_500));
        }
        stale_after.set_list(Duration::from_secs(150));
        store.configure(stale_after);
        Self { clock, store }
    }

    pub(crate) fn list(&self, run: Option<RunId>, state: Option<StateSample>, description: Option<DomainDescription>) {
        let listed =
            ListedDomain { id: ID, name: "web \"1\"".into(), run, state, description: description.map(Arc::new) };
        self.store
            .apply_inventory(self.store.stamp(), InventoryReply { domains: vec![listed], ..InventoryReply::default() });
    }

    /// Its QEMU was started so long after boot; the clock began 100,000 s after boot.
    pub(crate) fn started(&self, after_boot: u64) {
        let start_ticks = after_boot * rustix::param::clock_ticks_per_second();
        self.store.apply_processes(&[(ID, RUN, Process { pid: 4001, start_ticks, state: ProcessState::Runs })]);
    }

    /// A sample of now.
    pub(crate) fn sample(&self, figures: Figures) {
        let request = BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::All };
        let record = DomainRecord { id: ID, name: "web \"1\"".into(), run: Some(RUN), figures };
        self.store.apply_bulk(
            self.store.stamp(),
            &request,
            BulkReply { records: vec![record], ..BulkReply::default() },
        );
    }

    pub(crate) fn happened(&self, what: Happened) {
        self.store.apply_event(self.store.moment(), &DomainEvent { id: ID, run: Some(RUN), what });
    }

    /// The `HostStats`; `None` if the host was not looked at lately.
    pub(crate) fn host(&self) -> Option<Value> {
        let mut body = HostBody::new(View::new(&self.store))?;
        let text = std::iter::from_fn(|| body.next_piece()).collect::<Vec<_>>().concat();
        Some(serde_json::from_slice(&text).unwrap())
    }

    /// The result of a call without parameters.
    pub(crate) fn call(&self, method: &str) -> Value {
        self.store.asked_all(Group::ALL.into_iter().collect());
        let request = json!({"jsonrpc": "2.0", "method": method, "id": 1}).to_string();
        let mut answer = Rpc::new(Arc::clone(&self.store)).answer(request.as_bytes()).unwrap();
        let text = std::iter::from_fn(|| answer.next_piece()).collect::<Vec<_>>().concat();
        let mut answer: Value = serde_json::from_slice(&text).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].take()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Its `VmStats`, as text.
    pub(crate) fn text(&self) -> String {
        let view = View::new(&self.store);
        let mut out = Vec::new();
        view.write_vm(view.find(&ID.to_string()).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Its `VmStats`.
    pub(crate) fn vm(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }
}
