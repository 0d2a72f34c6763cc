//! One sealed cell: AES-256-GCM-SIV (RFC 8452) over the plaintext, with everything before the nonce authenticated.
//!
//! AAD = "pgveil1\0" ‖ deployment id ‖ envelope bytes 0..20+T ‖ (row-bound: u32 length ‖ canonical primary key).

use aes::Aes256Enc;
use aes_gcm_siv::aead::inout::InOutBuf;
use aes_gcm_siv::{AeadInOut, AesGcmSiv, KeyInit};

use super::derive::{Prf, Purpose, derive};
use super::header::{HEADER_LEN, Header, SealMode};
use super::token::ORDER_LEN_MAX;
use crate::secret::{Entropy, Key};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of the authentication tag.
pub const TAG_LEN: usize = 16;
/// What an envelope without a token adds to its plaintext.
pub const OVERHEAD: usize = HEADER_LEN + NONCE_LEN + TAG_LEN;
/// Bytes of a wrapped key: nonce, 32 bytes, tag.
pub const WRAPPED_LEN: usize = NONCE_LEN + 32 + TAG_LEN;

const AAD_LABEL: &[u8; 8] = b"pgveil1\0";
const AAD_PREFIX_LEN: usize = 24;
const AAD_SHORT_MAX: usize = AAD_PREFIX_LEN + HEADER_LEN + ORDER_LEN_MAX;

/// AES-256-GCM-SIV. Its block cipher only ever encrypts; with the decryption schedule left out, the schedule that
/// RFC 8452 derives for every message is half the work to make and to zeroise (45 of 440 ns per short cell).
pub(super) type Cipher = AesGcmSiv<Aes256Enc>;

/// What every AAD of a deployment begins with.
pub(super) type AadPrefix = [u8; AAD_PREFIX_LEN];

pub(super) fn aad_prefix(deployment_id: &[u8; 16]) -> AadPrefix {
    let mut prefix = [0; AAD_PREFIX_LEN];
    prefix[..8].copy_from_slice(AAD_LABEL);
    prefix[8..].copy_from_slice(deployment_id);
    prefix
}

/// The keys of one column under one DEK, with their schedules computed: made once at load, never per cell.
pub(super) struct CellKey {
    cipher: Cipher,
    nonce: Prf,
}

/// Everything about a cell but its plaintext.
pub(super) struct Cell<'a> {
    pub(super) prefix: &'a AadPrefix,
    pub(super) header: Header,
    /// As long as `header.token_len` says.
    pub(super) token: &'a [u8],
    /// Canonical primary key, if and only if the header is row-bound.
    pub(super) row_key: Option<&'a [u8]>,
}

impl CellKey {
    pub(super) fn new(deployment_id: &[u8; 16], dek: &Key, column_id: u32) -> Self {
        Self {
            cipher: cipher(&derive(deployment_id, dek, Purpose::Enc, column_id)),
            nonce: Prf::new(&derive(deployment_id, dek, Purpose::Nonce, column_id)),
        }
    }

    /// Appends an envelope to `out`. `None`, and nothing appended, if the header is not one that parses or the
    /// plaintext is beyond the cipher's limit (64 GiB).
    pub(super) fn seal(
        &self,
        cell: &Cell<'_>,
        plaintext: &[u8],
        entropy: &mut dyn Entropy,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let head = cell.header.to_bytes()?;
        let start = out.len();
        out.reserve(OVERHEAD + cell.token.len() + plaintext.len());
        out.extend_from_slice(&head);
        out.extend_from_slice(cell.token);
        let aad = Aad::new(cell.prefix, &out[start..], cell.row_key);
        let nonce = match cell.header.mode {
            SealMode::Randomized => {
                let mut nonce = [0; NONCE_LEN];
                entropy.fill(&mut nonce);
                nonce
            }
            SealMode::Deterministic => self.synthetic_nonce(aad.as_bytes(), plaintext),
        };
        out.extend_from_slice(&nonce);
        let sealed = aead_seal(&self.cipher, &nonce, aad.as_bytes(), plaintext, out);
        if sealed.is_none() {
            out.truncate(start);
        }
        sealed
    }

    /// Appends the plaintext of `envelope`, whose parsed head is `cell.header`. `None`, and nothing appended, if it
    /// does not authenticate.
    pub(super) fn open(
        &self,
        prefix: &AadPrefix,
        header: &Header,
        envelope: &[u8],
        row_key: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let (head, rest) = envelope.split_at_checked(header.authenticated_len())?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        aead_open(&self.cipher, nonce, Aad::new(prefix, head, row_key).as_bytes(), sealed, out)
    }

    /// HMAC-SHA-256(K_nonce, u32 len(AAD) ‖ AAD ‖ plaintext), first 12 bytes.
    fn synthetic_nonce(&self, aad: &[u8], plaintext: &[u8]) -> [u8; NONCE_LEN] {
        let len = u32::try_from(aad.len()).unwrap_or(u32::MAX);
        let mac = self.nonce.compute(&[&len.to_be_bytes(), aad, plaintext]);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&mac[..NONCE_LEN]);
        nonce
    }
}

/// On the stack unless the cell is row-bound.
enum Aad {
    Short([u8; AAD_SHORT_MAX], usize),
    Long(Vec<u8>),
}

impl Aad {
    /// `head` is the fixed part and a token of at most `ORDER_LEN_MAX` bytes, as every parsed header guarantees.
    fn new(prefix: &AadPrefix, head: &[u8], row_key: Option<&[u8]>) -> Self {
        let Some(row_key) = row_key else {
            let mut short = [0; AAD_SHORT_MAX];
            let len = AAD_PREFIX_LEN + head.len();
            short[..AAD_PREFIX_LEN].copy_from_slice(prefix);
            short[AAD_PREFIX_LEN..len].copy_from_slice(head);
            return Self::Short(short, len);
        };
        let len = u32::try_from(row_key.len()).unwrap_or(u32::MAX);
        Self::Long([prefix.as_slice(), head, &len.to_be_bytes(), row_key].concat())
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes, len) => &bytes[..*len],
            Self::Long(bytes) => bytes,
        }
    }
}

/// A key under another key: nonce ‖ ciphertext ‖ tag. `aad` names what is wrapped and for whom; `nonce` is random.
pub fn wrap_key(wrapping: &Key, aad: &[u8], nonce: [u8; NONCE_LEN], key: &Key) -> [u8; WRAPPED_LEN] {
    let mut wrapped = Vec::with_capacity(WRAPPED_LEN);
    wrapped.extend_from_slice(&nonce);
    // RFC 8452's limit is 2^36 bytes.
    aead_seal(&cipher(wrapping), &nonce, aad, key.expose(), &mut wrapped).expect("32 bytes are within the limit");
    // The capacity above is filled exactly.
    wrapped.try_into().expect("12 + 32 + 16 = 60")
}

/// The key inside, if the wrapping key and `aad` are the ones it was wrapped with.
pub fn unwrap_key(wrapping: &Key, aad: &[u8], wrapped: &[u8; WRAPPED_LEN]) -> Option<Key> {
    let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_LEN>()?;
    let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(WRAPPED_LEN));
    aead_open(&cipher(wrapping), nonce, aad, sealed, &mut plain)?;
    Some(Key::new(plain.as_slice().try_into().ok()?))
}

pub(super) fn cipher(key: &Key) -> Cipher {
    Cipher::new(key.expose().into())
}

/// Appends ciphertext ‖ tag.
pub(super) fn aead_seal(
    cipher: &Cipher,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    let body = out.len();
    out.extend_from_slice(plaintext);
    let Ok(tag) = cipher.encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(&mut out[body..])) else {
        out.truncate(body);
        return None;
    };
    out.extend_from_slice(&tag);
    Some(())
}

/// Appends the plaintext of ciphertext ‖ tag, or nothing. A failed cell's bytes in `out` are turned back into
/// ciphertext by the cipher before they are dropped.
pub(super) fn aead_open(
    cipher: &Cipher,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
    let body = out.len();
    out.extend_from_slice(ciphertext);
    let buffer = InOutBuf::from(&mut out[body..]);
    if cipher.decrypt_inout_detached(nonce.into(), aad, buffer, tag.into()).is_err() {
        out.truncate(body);
        return None;
    }
    Some(())
}
