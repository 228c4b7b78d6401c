//! virtstatd: one service per KVM host that samples every VM in bulk and serves the result.
//!
//! What is where, and who may use whom (`tests/architecture.rs` holds this table and fails on any other arrow):
//!
//! | module | what lives there | uses |
//! |---|---|---|
//! | `model` | the vocabulary: ids, groups, samples, inventory, rates, source traits | nothing |
//! | `clock` | time, handed in | nothing |
//! | `config` | file shapes, checked settings, defaults | `model` |
//! | `libvirt` | connection, bulk calls, XML, decoding; the only unsafe code | `model`, `clock` |
//! | `sync` | the lock of hand-overs, for the model checker to replace | nothing |
//! | `kernel` | QEMU processes in /proc | `model`, `clock` |
//! | `host` | the host's own figures, free space, which mounts files are on and whether they answer | `model`, `clock` |
//! | `store` | sample windows, snapshots, the sampler's own metrics | `model`, `clock` |
//! | `sampling` | schedule, lanes, pool, engine | `model`, `clock`, `store`, `config`, `sync` |
//! | `export` | Prometheus text, own JSON, and that of oVirt's VDSM | `model`, `store` |
//! | `listen` | opens the ports of both servers, and says why one cannot be | nothing |
//! | `http` | server, routes, responses | `export`, `listen`, `store` |
//! | `stomp` | VDSM's JSON-RPC over STOMP: frames, sessions, listeners, TLS | `export`, `listen`, `store` |
//! | `client` | asks a running daemon over HTTP | nothing |
//! | `logging` | log lines on stderr | nothing |
//! | `daemon` | wires the parts; signals; order of shutdown | `clock`, `config`, `export`, `host`, `http`, `kernel`, `libvirt`, `listen`, `logging`, `model`, `sampling`, `stomp`, `store` |
//! | `cli` | command line, exit codes | `client`, `config`, `daemon`, `export`, `logging`, `model` |

#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod client;
#[forbid(unsafe_code)]
pub mod clock;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod daemon;
#[forbid(unsafe_code)]
pub mod export;
#[forbid(unsafe_code)]
pub mod host;
#[forbid(unsafe_code)]
pub mod http;
#[forbid(unsafe_code)]
pub mod kernel;
pub mod libvirt;
#[forbid(unsafe_code)]
pub mod listen;
#[forbid(unsafe_code)]
pub mod logging;
#[forbid(unsafe_code)]
pub mod model;
#[forbid(unsafe_code)]
pub mod sampling;
#[forbid(unsafe_code)]
pub mod stomp;
#[forbid(unsafe_code)]
pub mod store;
#[forbid(unsafe_code)]
mod sync;
