//! Which connections of libvirt are about processes of this host.

/// May a connection with this URI be about processes of this host?
///
/// # Errors
/// In words, why not.
pub fn reaches(uri: &str) -> Result<(), String> {
    let (scheme, rest) = uri.split_once(':').ok_or_else(|| format!("{uri:?} names no driver of libvirt"))?;
    let (driver, transport) = scheme.split_once('+').map_or((scheme, None), |(driver, name)| (driver, Some(name)));
    if driver != "qemu" {
        return Err(format!("the {driver} driver of libvirt runs no QEMU processes"));
    }
    if let Some(transport) = transport.filter(|transport| *transport != "unix") {
        return Err(format!("a connection by {transport} is to another host, or is meant for one"));
    }
    let host = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if host.is_empty() { Ok(()) } else { Err(format!("its guests run on {host}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_qemu_on_this_host_is_within_reach() {
        for uri in ["qemu:///system", "qemu:///session", "qemu+unix:///system?socket=/x/y", "qemu:///embed?root=/r"] {
            assert_eq!(reaches(uri), Ok(()), "{uri}");
        }
        for (uri, word) in [
            ("qemu+ssh://root@far/system", "ssh"),
            ("qemu+tcp://127.0.0.1/system", "tcp"),
            ("qemu+tls:///system", "tls"),
            ("qemu+ext:///system?command=x", "ext"),
            ("qemu://far.example:1/system", "far.example:1"),
            ("qemu+unix://far?socket=/x", "far"),
            ("test:///default", "test"),
            ("xen:///", "xen"),
            ("lxc:///", "lxc"),
            ("qemux:///system", "qemux"),
            ("nonsense", "nonsense"),
            ("", "names no driver"),
        ] {
            let reason = reaches(uri).expect_err(uri);
            assert!(reason.contains(word), "{uri}: {reason}");
        }
    }
}
