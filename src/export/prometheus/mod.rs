//! /metrics: a table of metric families ([`table`]), a writer that turns a snapshot into text ([`render`]), and the
//! publisher that does so once per snapshot for all scrapes ([`publisher`]).

mod gzip;
mod labels;
mod publisher;
mod reference;
mod render;
mod table;
mod value;

pub use publisher::{Exposition, Scrape, start};
pub use reference::markdown;
pub use render::{Options, Renderer, Rendering};
