#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
enum Item {
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    Fixed([u8; 13]),
    Opaque(Vec<u8>),
    Text(String),
    OptionalText(Option<String>),
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        any::<u32>().prop_map(Item::U32),
        any::<i32>().prop_map(Item::I32),
        any::<u64>().prop_map(Item::U64),
        any::<i64>().prop_map(Item::I64),
        (-1e300..1e300).prop_map(Item::F64),
        any::<bool>().prop_map(Item::Bool),
        any::<[u8; 13]>().prop_map(Item::Fixed),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Item::Opaque),
        ".{0,20}".prop_map(Item::Text),
        proptest::option::of(".{0,20}").prop_map(Item::OptionalText),
    ]
}

fn encode(items: &[Item]) -> Vec<u8> {
    let mut out = Encoder::new();
    for item in items {
        match item {
            Item::U32(value) => out.u32(*value),
            Item::I32(value) => out.i32(*value),
            Item::U64(value) => out.u64(*value),
            Item::I64(value) => out.i64(*value),
            Item::F64(value) => out.f64(*value),
            Item::Bool(value) => out.bool(*value),
            Item::Fixed(value) => out.fixed(value),
            Item::Opaque(value) => out.opaque(value),
            Item::Text(value) => out.text(value),
            Item::OptionalText(value) => out.optional_text(value.as_deref()),
        }
    }
    out.into_bytes()
}

/// Reads items of the same kinds.
fn decode(like: &[Item], bytes: &[u8]) -> Result<Vec<Item>, Malformed> {
    let mut input = Decoder::new(bytes);
    let items = like.iter().map(|item| {
        Ok(match item {
            Item::U32(_) => Item::U32(input.u32()?),
            Item::I32(_) => Item::I32(input.i32()?),
            Item::U64(_) => Item::U64(input.u64()?),
            Item::I64(_) => Item::I64(input.i64()?),
            Item::F64(_) => Item::F64(input.f64()?),
            Item::Bool(_) => Item::Bool(input.bool()?),
            Item::Fixed(_) => Item::Fixed(input.array()?),
            Item::Opaque(_) => Item::Opaque(input.opaque(64)?.to_vec()),
            Item::Text(_) => Item::Text(input.text(128)?.to_owned()),
            Item::OptionalText(_) => Item::OptionalText(input.optional_text(128)?.map(str::to_owned)),
        })
    });
    items.collect()
}

proptest! {
    #[test]
    fn what_was_written_is_read(items in proptest::collection::vec(item(), 0..20)) {
        let bytes = encode(&items);
        prop_assert_eq!(bytes.len() % 4, 0);
        prop_assert_eq!(decode(&items, &bytes).unwrap(), items);
    }

    #[test]
    fn what_was_read_is_written(items in proptest::collection::vec(item(), 1..8), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Arbitrary bytes never panic; what can be read of them means the same when it is written again.
        if let Ok(read) = decode(&items, &bytes) {
            let again = decode(&items, &encode(&read)).unwrap();
            prop_assert_eq!(encode(&again), encode(&read));
        }
    }

    #[test]
    fn a_cut_is_noticed(items in proptest::collection::vec(item(), 1..8), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&items);
        let cut = cut.index(bytes.len().max(1));
        if cut < bytes.len() {
            prop_assert_eq!(decode(&items, &bytes[..cut]), Err(Malformed::Short));
        }
    }
}

#[test]
fn lengths_are_not_believed() {
    let huge = [0xff; 8];
    assert_eq!(Decoder::new(&huge).opaque(usize::MAX), Err(Malformed::Short));
    assert_eq!(Decoder::new(&huge).opaque(1000), Err(Malformed::Long(u32::MAX)));
    assert_eq!(Decoder::new(&huge).count(usize::MAX), Err(Malformed::Short));
    assert_eq!(Decoder::new(&huge).bool(), Err(Malformed::NotBoolean(u32::MAX)));
    assert_eq!(Decoder::new(&[0, 0, 0, 1, 0xff, 0, 0, 0]).text(9), Err(Malformed::NotText));
}

#[test]
fn a_gap_is_filled_later() {
    let mut out = Encoder::new();
    let gap = out.gap();
    out.text("abcde");
    out.fill(gap, 7);
    assert_eq!(out.into_bytes(), [0, 0, 0, 7, 0, 0, 0, 5, b'a', b'b', b'c', b'd', b'e', 0, 0, 0]);
}
