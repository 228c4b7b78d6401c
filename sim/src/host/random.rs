//! What looks random, and is the same for the same seed.

/// The generator: small, and its sequence belongs to its seed alone.
pub(super) type Random = fastrand::Rng;

/// A generator for one thing of one guest: what is drawn for one does not shift what is drawn for another.
pub(super) fn of(seed: u64, purpose: u64) -> Random {
    let mut mixed = seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Random::with_seed(mixed ^ (mixed >> 31))
}

/// One of a table of weights and values.
pub(super) fn pick<T: Copy>(random: &mut Random, table: &[(u32, T)]) -> T {
    let mut lot = random.u32(0..table.iter().map(|(weight, _)| weight).sum());
    for (weight, value) in table {
        match lot.checked_sub(*weight) {
            Some(rest) => lot = rest,
            None => return *value,
        }
    }
    unreachable!("the lot is below the sum of the weights")
}

/// Does it happen, so often of a hundred?
pub(super) fn chance(random: &mut Random, percent: u32) -> bool {
    random.u32(0..100) < percent
}

/// The bytes of a random UUID.
pub(super) fn uuid(random: &mut Random) -> [u8; 16] {
    uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid().into_bytes()
}

/// A random UUID as text.
pub(super) fn uuid_text(random: &mut Random) -> String {
    uuid::Uuid::from_bytes(uuid(random)).to_string()
}
