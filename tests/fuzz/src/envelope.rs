//! Bytes that nobody with the keys made are never opened; a sealed cell opens as it was, and not at all once touched.

use std::sync::LazyLock;

use pgveil::crypto::{Header, Keyring, OVERHEAD, SealMode};
use pgveil::secret::Entropy;

static RING: LazyLock<Keyring> = LazyLock::new(|| {
    let columns = [(1, "public.users.email"), (2, "public.users.ssn")];
    Keyring::for_tests(&[1; 32], "app", &columns).expect("two ids, two names")
});

/// Nonces out of the input.
struct Given<'a>(&'a [u8]);

impl Entropy for Given<'_> {
    fn fill(&mut self, out: &mut [u8]) {
        for (byte, given) in out.iter_mut().zip(self.0.iter().cycle()) {
            *byte = *given;
        }
    }
}

/// One input.
pub fn run(data: &[u8]) {
    let mut out = Vec::new();
    assert!(RING.open(data, &mut out).is_err() && out.is_empty());
    if let Some(header) = Header::parse(data) {
        assert!(data.len() >= OVERHEAD + usize::from(header.token_len));
    }

    let Some((&[mode, at_hi, at_lo, bit], plaintext)) = data.split_first_chunk::<4>() else { return };
    let mode = if mode & 1 == 0 { SealMode::Randomized } else { SealMode::Deterministic };
    let mut cell = Vec::new();
    RING.seal(1, mode, 1, plaintext, &mut Given(data), &mut cell).expect("a known column and type");
    RING.open(&cell, &mut out).expect("what was sealed opens");
    assert_eq!(out, plaintext);
    let at = usize::from(u16::from_be_bytes([at_hi, at_lo])) % cell.len();
    cell[at] ^= 1 << (bit & 7);
    out.clear();
    assert!(RING.open(&cell, &mut out).is_err() && out.is_empty());
}
