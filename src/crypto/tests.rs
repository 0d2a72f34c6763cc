//! The envelope against vectors of an independent implementation, wycheproof, and hostile bytes.

use proptest::prelude::*;

use super::derive::{Prf, Purpose, derive};
use super::*;
use crate::secret::{Entropy, Key};

/// Yields one byte for ever.
struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(self.0);
    }
}

/// Counts, so that no two nonces are the same.
struct Counting(u64);

impl Entropy for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        out.fill(0);
        out[..8].copy_from_slice(&self.0.to_le_bytes());
    }
}

fn consecutive<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + i as u8)
}

/// The vectors' ring: one DEK for the given column and key id.
fn vector_ring(column_id: u32, key_id: u64) -> Keyring {
    let deployment_id = consecutive::<16>(0);
    let dek = Key::new(consecutive(0));
    let mut builder = Keyring::builder(deployment_id, Key::new(consecutive(0x20)));
    builder.column(Column {
        id: column_id,
        system_identifier: 1,
        database: "app".into(),
        column: "public.people.ssn".into(),
        mode: SealMode::Randomized,
        equality_domain: column_id,
        retired: false,
    });
    let info = KeyInfo { id: key_id, column_id, created_unix_s: 0 };
    builder.key(info, &dek, &commitment(&deployment_id, &dek)).unwrap();
    builder.build().unwrap()
}

/// Looks up `field` under the heading that begins with `heading`, or `heading value` lines themselves.
fn vector(heading: &str, field: &str) -> Vec<u8> {
    let text = include_str!("../../tests/vectors/envelope.txt");
    let mut lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.find(|l| l.starts_with(heading)).unwrap();
    let line = lines.map(str::trim_start).find(|l| l.starts_with(field)).unwrap();
    hex::decode(line.strip_prefix(field).unwrap().trim()).unwrap()
}

fn last_word(heading: &str) -> Vec<u8> {
    let text = include_str!("../../tests/vectors/envelope.txt");
    let line = text.lines().find(|l| l.starts_with(heading)).unwrap();
    hex::decode(line.rsplit(' ').next().unwrap()).unwrap()
}

/// Seals what the vector sealed and opens what the vector holds; the vector's AAD is the one its header gives.
fn check_vector(
    heading: &str,
    ring: &Keyring,
    column_id: u32,
    (mode, type_code, plaintext): (SealMode, u8, &[u8]),
    extras: Extras<'_>,
    nonce: u8,
) {
    let expected = vector(heading, "env");
    let mut sealed = Vec::new();
    ring.seal_with(column_id, mode, type_code, plaintext, &extras, &mut Fixed(nonce), &mut sealed).unwrap();
    assert_eq!(hex::encode(&sealed), hex::encode(&expected), "{heading}");

    let mut opened = b"before ".to_vec();
    let header = ring.open_in_row(&expected, extras.row_key, &mut opened).unwrap();
    assert_eq!(opened, [b"before ", plaintext].concat());
    assert_eq!((header.mode, header.type_code, header.column_id), (mode, type_code, column_id));

    let aad = vector(heading, "aad");
    let head = 20 + usize::from(header.token_len);
    assert_eq!(aad[..8], *b"pgveil1\0");
    assert_eq!(aad[8..24], *ring.deployment_id());
    assert_eq!(aad[24..24 + head], expected[..head]);
}

#[test]
fn vectors_match_byte_for_byte() {
    let ring = vector_ring(7, 1);
    let ssn = b"123-45-6789";
    let none = Extras::default();
    let cell = (SealMode::Deterministic, 1, &ssn[..]);
    check_vector("DET text ssn 59", &ring, 7, cell, none, 0xAA);

    let equality = Extras { equality: true, ..none };
    let cell = (SealMode::Randomized, 1, &ssn[..]);
    check_vector("RND text ssn + token", &ring, 7, cell, equality, 0);
    assert_eq!(ring.equality_token(7, ssn).unwrap()[..], vector("RND text ssn + token", "env")[20..36]);

    let row_key = 1i64.to_be_bytes();
    let bound = Extras { row_key: Some(&row_key), ..none };
    let answer = 42i64.to_be_bytes();
    let cell = (SealMode::Randomized, 2, &answer[..]);
    check_vector("RND int8 42 row-bound", &vector_ring(9, 2), 9, cell, bound, 1);

    // 1985-07-23 is 5275 days before 2000-01-01.
    let birth = -5275i32;
    let order = Extras { order: Some(OrderValue::int4(birth)), ..none };
    let days = birth.to_be_bytes();
    let cell = (SealMode::Randomized, 4, &days[..]);
    check_vector("RND date 1985-07-23 + order", &vector_ring(11, 1), 11, cell, order, 0);
}

#[test]
fn order_tokens_match_and_compare_like_their_values() {
    let ring = vector_ring(11, 1);
    let token = |days| ring.order_token(11, OrderValue::int4(days)).unwrap();
    assert_eq!(token(0).as_bytes(), vector("order token date 2000-01-01", "tok"));
    assert_eq!(token(-5275).as_bytes(), vector("order token date 1985-07-23", "tok"));
    assert_eq!(token(8825).as_bytes(), vector("order token date 2024-02-29", "tok"));
    assert!(token(-5275) < token(0) && token(0) < token(8825));
}

#[test]
fn derived_key_and_commitment_match() {
    let deployment_id = consecutive::<16>(0);
    let dek = Key::new(consecutive(0));
    let enc = derive(&deployment_id, &dek, Purpose::Enc, 7);
    assert_eq!(enc.expose()[..], last_word("K_enc col7"));
    assert_eq!(commitment(&deployment_id, &dek)[..], last_word("commit"));
}

#[test]
fn wycheproof_vectors_pass_through_our_cipher_calls() {
    use wycheproof::{TestResult, aead};
    let set = aead::TestSet::load(aead::TestName::AesGcmSiv).unwrap();
    let mut tried = 0;
    for group in set.test_groups.iter().filter(|g| g.key_size == 256 && g.nonce_size == 96) {
        for test in &group.tests {
            let key = Key::new(test.key.as_slice().try_into().unwrap());
            let cipher = envelope::cipher(&key);
            let nonce: [u8; NONCE_LEN] = test.nonce.as_slice().try_into().unwrap();
            let expected = [test.ct.as_slice(), test.tag.as_slice()].concat();
            let mut opened = Vec::new();
            let opens = envelope::aead_open(&cipher, &nonce, &test.aad, &expected, &mut opened).is_some();
            assert_eq!(opens, test.result == TestResult::Valid, "tcId {}", test.tc_id);
            if opens {
                assert_eq!(opened, test.pt.as_slice(), "tcId {}", test.tc_id);
                let mut sealed = Vec::new();
                envelope::aead_seal(&cipher, &nonce, &test.aad, &test.pt, &mut sealed).unwrap();
                assert_eq!(sealed, expected, "tcId {}", test.tc_id);
            } else {
                assert!(opened.is_empty(), "tcId {}", test.tc_id);
            }
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} vectors");
}

fn two_column_ring() -> Keyring {
    Keyring::for_tests(&[7; 32], "app", &[(1, "public.users.email"), (2, "public.users.ssn")]).unwrap()
}

fn sealed(ring: &Keyring, column_id: u32, mode: SealMode, plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ring.seal(column_id, mode, 1, plaintext, &mut Counting(0), &mut out).unwrap();
    out
}

#[test]
fn one_flipped_bit_anywhere_never_opens() {
    let ring = two_column_ring();
    for mode in [SealMode::Randomized, SealMode::Deterministic] {
        let whole = sealed(&ring, 1, mode, b"alice@example.com");
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut out = vec![1, 2, 3];
            let error = ring.open(&flipped, &mut out).unwrap_err();
            assert_eq!(out, [1, 2, 3], "bit {bit}: {error}");
        }
        for cut in 0..whole.len() {
            assert!(ring.open(&whole[..cut], &mut Vec::new()).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let ring = two_column_ring();
    let whole = sealed(&ring, 1, SealMode::Randomized, b"x");
    let open = |bytes: &[u8]| ring.open(bytes, &mut Vec::new()).unwrap_err();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(open(b""), OpenError::NotAnEnvelope);
    assert_eq!(open(b"\xfe\xd1\x01 that is not one, but long enough to be looked at"), OpenError::NotAnEnvelope);
    assert_eq!(open(&with(11, 9)), OpenError::UnknownColumn);
    assert_eq!(open(&with(19, 9)), OpenError::UnknownKey);
    assert_eq!(open(&with(4, 2)), OpenError::DoesNotAuthenticate);
    assert_eq!(open(&with(5, flags::PADDED)), OpenError::Reserved);
    assert_eq!(open(&with(5, flags::ROW_BOUND)), OpenError::Reserved);
    assert_eq!(open(&with(20, whole[20] ^ 1)), OpenError::DoesNotAuthenticate);
    let unknown = ring.seal(3, SealMode::Randomized, 1, b"", &mut Fixed(0), &mut Vec::new());
    assert_eq!(unknown.unwrap_err(), SealError::UnknownColumn);
    let mut out = vec![9];
    let bad_type = ring.seal(1, SealMode::Randomized, 13, b"", &mut Fixed(0), &mut out);
    assert_eq!((bad_type.unwrap_err(), out), (SealError::Format, vec![9]));
}

#[test]
fn a_cell_moved_to_another_column_or_deployment_does_not_open() {
    let ring = two_column_ring();
    let mut moved = sealed(&ring, 1, SealMode::Deterministic, b"alice@example.com");
    moved[8..12].copy_from_slice(&2u32.to_be_bytes());
    assert_eq!(ring.open(&moved, &mut Vec::new()).unwrap_err(), OpenError::UnknownKey);
    moved[12..20].copy_from_slice(&2u64.to_be_bytes());
    assert_eq!(ring.open(&moved, &mut Vec::new()).unwrap_err(), OpenError::DoesNotAuthenticate);

    let other = Keyring::for_tests(&[8; 32], "app", &[(1, "public.users.email")]).unwrap();
    let foreign = sealed(&other, 1, SealMode::Randomized, b"alice@example.com");
    assert_eq!(ring.open(&foreign, &mut Vec::new()).unwrap_err(), OpenError::DoesNotAuthenticate);
}

#[test]
fn a_row_bound_cell_opens_only_in_its_row() {
    let ring = two_column_ring();
    let extras = Extras { row_key: Some(b"row 1"), ..Extras::default() };
    let mut cell = Vec::new();
    ring.seal_with(1, SealMode::Randomized, 1, b"x", &extras, &mut Fixed(3), &mut cell).unwrap();
    let open = |row_key| ring.open_in_row(&cell, row_key, &mut Vec::new()).map(|h| h.flags);
    assert_eq!(open(Some(b"row 1")), Ok(flags::ROW_BOUND));
    assert_eq!(open(Some(b"row 2")), Err(OpenError::DoesNotAuthenticate));
    assert_eq!(open(None), Err(OpenError::Reserved));
}

/// Key 1 and, if asked for, key 2 of column 1; both cells of both keys open, the newest seals.
fn ring_with_keys(mode: SealMode, key_ids: &[u64]) -> Result<Keyring, RingError> {
    let deployment_id = [1; 16];
    let mut builder = Keyring::builder(deployment_id, Key::new([2; 32]));
    let (database, column) = ("app".to_owned(), "public.t.c".to_owned());
    builder.column(Column { id: 1, system_identifier: 5, database, column, mode, equality_domain: 1, retired: false });
    for &id in key_ids {
        let dek = Key::new([id as u8; 32]);
        builder.key(KeyInfo { id, column_id: 1, created_unix_s: 100 }, &dek, &commitment(&deployment_id, &dek))?;
    }
    builder.build()
}

#[test]
fn the_newest_key_seals_and_every_key_opens() {
    let before = ring_with_keys(SealMode::Randomized, &[1]).unwrap();
    let after = ring_with_keys(SealMode::Randomized, &[2, 1]).unwrap();
    let (old, new) = (sealed(&before, 1, SealMode::Randomized, b"a"), sealed(&after, 1, SealMode::Randomized, b"b"));
    let mut out = Vec::new();
    assert_eq!(after.open(&old, &mut out).unwrap().key_id, 1);
    assert_eq!(after.open(&new, &mut out).unwrap().key_id, 2);
    assert_eq!(out, b"ab");
    assert_eq!(before.open(&new, &mut out).unwrap_err(), OpenError::UnknownKey);
    let refused = after.seal(1, SealMode::Deterministic, 1, b"", &mut Fixed(0), &mut out);
    assert_eq!(refused.unwrap_err(), SealError::SeveralKeys);
    let info: Vec<_> = after.columns().map(|c| (c.column.id, c.keys, c.newest_key)).collect();
    assert_eq!(info, [(1, 2, 2)]);
}

#[test]
fn a_ring_that_contradicts_itself_is_not_built() {
    let error = |ring: Result<Keyring, RingError>| ring.map(|_| ()).unwrap_err();
    assert_eq!(error(ring_with_keys(SealMode::Deterministic, &[1, 2])), RingError::SeveralKeys(1));
    assert_eq!(error(ring_with_keys(SealMode::Randomized, &[1, 1])), RingError::DuplicateKey(1));
    assert_eq!(error(ring_with_keys(SealMode::Randomized, &[0])), RingError::ZeroId);
    assert_eq!(error(ring_with_keys(SealMode::Randomized, &[])), RingError::NoKey(1));
    let twice = Keyring::for_tests(&[0; 32], "app", &[(1, "a.b.c"), (1, "a.b.d")]);
    // Both the column and its key repeat; the column is named.
    assert_eq!(error(twice), RingError::DuplicateColumn(1));
    let bound = Keyring::for_tests(&[0; 32], "app", &[(1, "a.b.c"), (2, "a.b.c")]);
    assert_eq!(error(bound), RingError::DuplicateBinding(1, 2));
    let mut builder = Keyring::builder([0; 16], Key::new([0; 32]));
    let info = KeyInfo { id: 1, column_id: 1, created_unix_s: 0 };
    assert_eq!(builder.key(info, &Key::new([0; 32]), &[0; 32]).unwrap_err(), RingError::Commitment(1));
}

#[test]
fn bindings_are_exact() {
    let ring = two_column_ring();
    assert_eq!(ring.column_id("app", "public.users.ssn"), Some(2));
    assert_eq!(ring.column_id("other", "public.users.ssn"), None);
    assert_eq!(ring.column_id("app", "public.users.SSN"), None);
    assert_eq!(ring.column_id_in(0, "app", "public.users.email"), Some(1));
    assert_eq!(ring.column_id_in(1, "app", "public.users.email"), None);
    assert!(ring.has_column(1) && !ring.has_column(3));
}

#[test]
fn pseudonyms_are_keyed_and_keep_kind_and_key_apart() {
    let ring = two_column_ring();
    let alice = ring.subject_pseudonym("user", b"1");
    assert_eq!(alice.to_string().len(), 32);
    assert_eq!(alice, ring.subject_pseudonym("user", b"1"));
    assert_ne!(alice, ring.subject_pseudonym("user", b"2"));
    assert_ne!(ring.subject_pseudonym("u", b"ser"), ring.subject_pseudonym("us", b"er"));
    let other = Keyring::for_tests(&[8; 32], "app", &[(1, "public.users.email")]).unwrap();
    assert_ne!(alice, other.subject_pseudonym("user", b"1"));
}

#[test]
fn debug_shows_no_key() {
    let ring = two_column_ring();
    assert_eq!(format!("{ring:?}"), "Keyring(2 columns, 2 keys, …)");
    let kek = KekKeys::derive(&[0; 16], &Key::new([0xAB; 32]));
    assert!(!format!("{kek:?}").to_lowercase().contains(&hex::encode(kek.wrap.expose())[..8]));
}

#[test]
fn wrapped_keys_open_only_under_their_name() {
    let (kek, key) = (Key::new([1; 32]), Key::new([2; 32]));
    let wrapped = wrap_key(&kek, b"key 1", [3; 12], &key);
    assert_eq!(unwrap_key(&kek, b"key 1", &wrapped).unwrap().expose(), key.expose());
    assert!(unwrap_key(&kek, b"key 2", &wrapped).is_none());
    assert!(unwrap_key(&key, b"key 1", &wrapped).is_none());
    for bit in 0..WRAPPED_LEN * 8 {
        let mut flipped = wrapped;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(unwrap_key(&kek, b"key 1", &flipped).is_none(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens(plaintext in prop::collection::vec(any::<u8>(), 0..200), type_code in 0u8..=12,
                            deterministic: bool, equality: bool, seed: u64) {
        let ring = two_column_ring();
        let mode = if deterministic { SealMode::Deterministic } else { SealMode::Randomized };
        let extras = Extras { equality, ..Extras::default() };
        let mut cell = Vec::new();
        ring.seal_with(2, mode, type_code, &plaintext, &extras, &mut Counting(seed >> 1), &mut cell).unwrap();
        prop_assert_eq!(cell.len(), OVERHEAD + if equality { TOKEN_LEN } else { 0 } + plaintext.len());
        let mut out = Vec::new();
        let header = ring.open(&cell, &mut out).unwrap();
        prop_assert_eq!(out, plaintext);
        prop_assert_eq!((header.mode, header.type_code, header.column_id, header.key_id), (mode, type_code, 2, 2));
    }

    #[test]
    fn deterministic_is_a_function_and_randomized_is_not(plaintext in prop::collection::vec(any::<u8>(), 0..50)) {
        let ring = two_column_ring();
        let pair = |mode| {
            let (mut entropy, mut a, mut b) = (Counting(0), Vec::new(), Vec::new());
            ring.seal(1, mode, 1, &plaintext, &mut entropy, &mut a).unwrap();
            ring.seal(1, mode, 1, &plaintext, &mut entropy, &mut b).unwrap();
            (a, b)
        };
        let (a, b) = pair(SealMode::Deterministic);
        prop_assert_eq!(a, b);
        let (a, b) = pair(SealMode::Randomized);
        prop_assert_ne!(a, b);
    }

    #[test]
    fn any_bytes_are_no_panic_and_no_plaintext(mut bytes in prop::collection::vec(any::<u8>(), 0..120), disguise: bool) {
        if disguise && bytes.len() > 20 {
            bytes[..4].copy_from_slice(&[0xFE, 0xD1, 1, 0x11]);
            bytes[4] %= 13;
            bytes[5] = 0;
            bytes[6..20].copy_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        }
        let mut out = Vec::new();
        prop_assert!(two_column_ring().open(&bytes, &mut out).is_err());
        prop_assert!(out.is_empty());
    }

    #[test]
    fn order_is_kept(a: i64, b: i64, near in -3i64..=3) {
        let key = Prf::new(&Key::new([5; 32]));
        for (a, b) in [(a, b), (a, a.saturating_add(near))] {
            let (ta, tb) = (token::order(&key, OrderValue::int8(a)), token::order(&key, OrderValue::int8(b)));
            prop_assert_eq!(a.cmp(&b), ta.as_bytes().cmp(tb.as_bytes()));
        }
        let (a, b) = (a as i16, b as i16);
        let (ta, tb) = (token::order(&key, OrderValue::int2(a)), token::order(&key, OrderValue::int2(b)));
        prop_assert_eq!(a.cmp(&b), ta.as_bytes().cmp(tb.as_bytes()));
    }
}
