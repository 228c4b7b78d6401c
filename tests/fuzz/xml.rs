//! XML of domains.

use virtstatd::libvirt::describe;

use super::Target;

const TARGET: Target = Target {
    name: "xml",
    per_mille: 250,
    words: &[
        "<domain>",
        "</domain>",
        "<devices>",
        "<disk",
        "<interface",
        "<source",
        "<target",
        "<metadata>",
        "<graphics",
        "<iotune>",
        "<memory",
        "xmlns='http://ovirt.org/vm/1.0'",
        "<!DOCTYPE x [",
        "<!ENTITY a 'b'>",
        "&a;",
        "&#x10ffff;",
        "&#0;",
        "&lt;",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "xmlns:nova=",
        "nova:",
        "<?xml version='1.0' encoding='utf-16'?>",
        "'",
        "\"",
        ">",
        "/>",
        "\u{feff}",
        "\u{0}",
    ],
};

#[test]
fn no_xml_makes_the_reader_panic() {
    TARGET.run(|case| {
        let text = String::from_utf8_lossy(case);
        if let Ok(domain) = describe(&text) {
            // What is in the result is in the text.
            assert!(domain.disks.len() <= text.matches("disk").count());
            assert!(domain.nics.len() <= text.matches("interface").count());
            assert!(domain.graphics.len() <= text.matches("graphics").count());
        }
    });
}

#[test]
fn enormous_xml_is_read_or_refused() {
    let deep = format!("<domain>{}{}</domain>", "<a>".repeat(200_000), "</a>".repeat(200_000));
    let wide = format!("<domain><devices>{}</devices></domain>", "<disk><target dev='vda'/></disk>".repeat(50_000));
    let long = format!("<domain><title>{}</title></domain>", "x".repeat(4 << 20));
    let open = "<a ".repeat(500_000);
    let laughs = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]><domain>&b;</domain>";
    for (name, text) in [("deep", &*deep), ("wide", &wide), ("long", &long), ("open", &open), ("laughs", laughs)] {
        // On a stack as small as a worker's.
        let text = text.to_owned();
        let read = std::thread::Builder::new().stack_size(2 << 20).spawn(move || describe(&text).is_ok());
        println!("{name}: read {}", read.unwrap().join().expect("it does not panic"));
    }
    let wide = describe(&wide).expect("well-formed");
    assert_eq!(wide.disks.len(), 50_000);
}
