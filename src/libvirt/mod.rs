//! libvirt as a [`Source`](crate::model::Source): connections, calls, events, XML, decoding.
//!
//! The only unsafe code of the project is in `ffi`. Uses `model` only; nobody but `daemon` may use it (and the benches,
//! for which the decoder is public).

mod connection;
mod decode;
mod domains;
mod factory;
mod ffi;
mod happened;
mod metadata;
mod ovirt;
mod peer;
mod sockets;
mod xml;

pub use decode::{Decoder, Value};
pub use factory::LibvirtFactory;
pub use xml::{XmlError, describe};
