//! /metrics: a table of metric families ([`table`]), which becomes lines ([`series`]) from what is fresh of a snapshot
//! ([`mod@view`]); they are kept as text, or, on a host with many guests, packed alone ([`render`], [`packed`]). The publisher
//! ([`publisher`]) does so once for all scrapes; what moves meanwhile ([`ages`]) is written per scrape, and so are the host's own
//! figures, if they are wanted ([`host`]).

mod ages;
mod code;
mod gzip;
mod host;
mod labels;
mod lines;
mod names;
mod packed;
mod packer;
mod publisher;
mod reference;
mod render;
mod series;
mod stream;
mod table;
mod value;
mod view;

pub use publisher::{Exposition, Scrape, start, start_with};
pub use reference::markdown;
pub use render::{Options, Renderer, Rendering};
pub use stream::Stream;
