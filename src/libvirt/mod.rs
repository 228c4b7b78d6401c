//! libvirt as a [`Source`](crate::model::Source): connection, bulk calls, domain list, XML, decoding.
//!
//! The only unsafe code of the project is in `ffi`. Uses `model` only; nobody but `daemon` may use it (and the benches,
//! for which the decoder is public).

mod connection;
mod decode;
mod ffi;
mod xml;

pub use connection::LibvirtFactory;
pub use decode::{Decoder, Value};
pub use xml::{XmlError, describe};
