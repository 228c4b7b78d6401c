//! The `virtstatd` binary: the command line, and the allocator of our own data.

#![forbid(unsafe_code)]

/// Not the C library's, which libvirt.so uses: its many short-lived pieces of each reply and our long-lived samples, side by
/// side, would scatter both over memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    virtstatd::cli::main()
}
