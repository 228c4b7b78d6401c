//! Typed parameters, as libvirt.so hands them over, into the decoder.

use virtstatd::libvirt::{Decoder, Value};
use virtstatd::model::DecodeCounts;

use super::Target;

const TARGET: Target = Target {
    name: "params",
    per_mille: 600,
    words: &[
        "state.state",
        "cpu.time",
        "vcpu.",
        "vcpu.current",
        "net.count",
        "net.",
        "block.count",
        "block.",
        "balloon.",
        ".rd.reqs",
        ".fl.times",
        ".state",
        ".time",
        ".name",
        ".sum",
        ".",
        "..",
        " u ",
        " i ",
        " s ",
        " o ",
        "\n",
    ],
};

/// A line is a name, a type (`i` signed, `u` unsigned, `s` text, `o` another) and a value.
fn parse(line: &[u8]) -> (&[u8], Value<'_>) {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (name, kind, value) = (parts.next().unwrap_or(b""), parts.next().unwrap_or(b""), parts.next().unwrap_or(b""));
    let text = std::str::from_utf8(value).unwrap_or("");
    let value = match kind {
        b"i" => Value::Signed(text.parse().unwrap_or(i64::MIN)),
        b"u" => Value::Unsigned(text.parse().unwrap_or(u64::MAX)),
        b"s" => Value::Text(value),
        _ => Value::Other,
    };
    (name, value)
}

#[test]
fn no_parameters_make_the_decoder_panic() {
    let decoder = Decoder::default();
    TARGET.run(|case| {
        let mut counts = DecodeCounts::default();
        let lines = || case.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let figures = decoder.figures(lines().map(parse), &mut counts);
        // A group is there only if what marks it came.
        assert!(figures.state.is_none_or(|state| state.state.is_some()));
        assert!(figures.cpu.is_none_or(|cpu| cpu.time_ns.is_some()));
        assert!(figures.vcpu.as_ref().is_none_or(|vcpu| !vcpu.vcpus.is_empty() && vcpu.vcpus.len() <= lines().count()));
        assert!(figures.interface.as_ref().is_none_or(|net| net.count.is_some()));
        let whole = |block: &virtstatd::model::BlockSample| {
            block.count == Some(0) || block.disks.iter().any(|disk| disk.read.requests.is_some())
        };
        assert!(figures.block.as_ref().is_none_or(whole));
    });
}
