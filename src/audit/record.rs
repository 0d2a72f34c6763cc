//! One line of the log: encoding, decoding, hashing. Pure.
//!
//! In: a sequence number, the previous record's hash and a payload. Out: the line, and its hash. Never: I/O.

use std::io;

use hmac::{Hmac, KeyInit, Mac};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::tree::Tree;
use crate::event::Event;
use crate::secret::Key;

/// SHA-256 of a record's body; zeros before the first record.
pub(super) type Hash = [u8; 32];

/// `,"hash":"` + 64 hex digits + `"}`.
const TAIL: usize = HASH_FIELD.len() + 64 + 2;
const HASH_FIELD: &[u8] = b",\"hash\":\"";
const CHECKPOINT_LABEL: &[u8] = b"pgveil1/log-checkpoint\0";
const HEAD_LABEL: &[u8] = b"pgveil1/log-head\0";
const KEY_LABEL: &[u8] = b"pgveil1/log-key\0";
const SIGN_LABEL: &[u8] = b"pgveil1/log-sign\0";

/// The first record of every segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentHeader {
    /// From 1, no gaps.
    pub(super) number: u64,
    /// The keyring's deployment id, 32 hex digits.
    pub(super) deployment: String,
    /// First 8 bytes of HMAC(audit key, label), hex: tells a wrong key from a forged record.
    pub(super) key: String,
    /// Microseconds since the epoch.
    pub(super) created_us: i64,
    /// The previous segment was given up after a failed fsync: records in it at or past this one's `seq` were
    /// never acknowledged and are repeated here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) salvaged: bool,
    /// The Merkle tree over all records before this one. Left out by earlier versions, and behind a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tree: Option<Tree>,
}

/// A checkpoint that proves to everybody what all records before it were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    /// A [`super::note::Note`].
    pub(super) note: String,
}

/// A keyed statement that everything up to here is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// Microseconds since the epoch.
    pub(super) at_us: i64,
    /// HMAC-SHA-256 over label ‖ deployment ‖ u64 seq ‖ previous hash, hex.
    pub(super) mac: String,
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    Segment(&'a SegmentHeader),
    Event(&'a Event),
    Checkpoint(&'a Checkpoint),
    Signed(&'a Signed),
    /// `"name":{…}` taken from another line.
    Raw(&'a [u8]),
}

/// Appends one line to `out` and returns its hash.
pub(super) fn encode(seq: u64, prev: &Hash, payload: Payload<'_>, out: &mut Vec<u8>) -> Hash {
    let start = out.len();
    out.extend_from_slice(b"{\"v\":1,\"seq\":");
    decimal(seq, out);
    out.extend_from_slice(b",\"prev\":\"");
    push_hex(prev, out);
    out.extend_from_slice(b"\",");
    match payload {
        Payload::Segment(header) => named("segment", header, out),
        Payload::Event(event) => {
            out.extend_from_slice(b"\"event\":");
            event.write_json(out);
        }
        Payload::Checkpoint(checkpoint) => named("checkpoint", checkpoint, out),
        Payload::Signed(signed) => named("signed", signed, out),
        Payload::Raw(bytes) => out.extend_from_slice(bytes),
    }
    let hash: Hash = Sha256::digest(&out[start..]).into();
    out.extend_from_slice(HASH_FIELD);
    push_hex(&hash, out);
    out.extend_from_slice(b"\"}\n");
    hash
}

fn named<T: Serialize>(name: &str, value: &T, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        // Writing into memory cannot fail, and these types have no map with keys that are not strings.
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

pub(super) fn push_hex(hash: &Hash, out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + 2 * hash.len(), b'0');
    // Twice as long as what is written there.
    let _ = hex::encode_to_slice(hash, &mut out[at..]);
}

fn decimal(number: u64, out: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(out, &number);
}

/// Why a line is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What kind a record is, and what the chain needs of it.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Segment(SegmentHeader),
    Event,
    Checkpoint(Checkpoint),
    Signed(Signed),
}

/// A record whose hash is right.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) prev: Hash,
    pub(super) hash: Hash,
    pub(super) kind: Kind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    v: u32,
    seq: u64,
    #[serde(borrow)]
    prev: &'a str,
    segment: Option<SegmentHeader>,
    event: Option<IgnoredAny>,
    checkpoint: Option<Checkpoint>,
    signed: Option<Signed>,
    #[serde(borrow)]
    hash: &'a str,
}

/// Reads one line without its newline and checks its hash.
pub(super) fn decode(line: &[u8]) -> Result<Record, Malformed> {
    let body = body(line)?;
    let raw: Raw<'_> = serde_json::from_slice(line).map_err(|_| Malformed)?;
    let hash = unhex(raw.hash)?;
    let computed: Hash = Sha256::digest(body).into();
    if raw.v != 1 || computed != hash {
        return Err(Malformed);
    }
    let kind = match (raw.segment, raw.event, raw.checkpoint, raw.signed) {
        (Some(header), None, None, None) => Kind::Segment(header),
        (None, Some(IgnoredAny), None, None) => Kind::Event,
        (None, None, Some(checkpoint), None) => Kind::Checkpoint(checkpoint),
        (None, None, None, Some(signed)) => Kind::Signed(signed),
        _ => return Err(Malformed),
    };
    Ok(Record { seq: raw.seq, prev: unhex(raw.prev)?, hash, kind })
}

/// The event in a line without its newline; `None` for headers, checkpoints, signatures and lines that are no record. Hashes
/// are not checked: [`super::verify`] does that.
pub(super) fn event(line: &[u8]) -> Option<(u64, Event)> {
    #[derive(Deserialize)]
    struct Only {
        seq: u64,
        event: Option<Event>,
    }
    let only: Only = serde_json::from_slice(line).ok()?;
    Some((only.seq, only.event?))
}

/// The number of a line that [`encode`] made.
pub(super) fn seq(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"v\":1,\"seq\":")?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

/// The payload (`"name":{…}`) of a line that [`encode`] made, without its newline.
pub(super) fn payload(line: &[u8]) -> Result<&[u8], Malformed> {
    let body = body(line)?;
    let marker = b",\"prev\":\"";
    let at = memchr::memmem::find(body, marker).ok_or(Malformed)?;
    body.get(at + marker.len() + 64 + 2..).ok_or(Malformed)
}

fn body(line: &[u8]) -> Result<&[u8], Malformed> {
    let split = line.len().checked_sub(TAIL).ok_or(Malformed)?;
    let (body, tail) = line.split_at(split);
    if tail.starts_with(HASH_FIELD) && tail.ends_with(b"\"}") { Ok(body) } else { Err(Malformed) }
}

pub(super) fn unhex(text: &str) -> Result<Hash, Malformed> {
    let mut hash = [0; 32];
    // Upper-case digits would be a second spelling of the same hash.
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Malformed);
    }
    hex::decode_to_slice(text, &mut hash).map_err(|_| Malformed)?;
    Ok(hash)
}

fn mac(key: &Key, label: &[u8], parts: &[&[u8]]) -> Hash {
    // RFC 2104: longer keys are hashed, shorter ones padded.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    mac.update(label);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The MAC of a checkpoint at `seq` after the record with hash `prev`, hex.
pub(super) fn checkpoint_mac(key: &Key, deployment: &str, seq: u64, prev: &Hash) -> String {
    hex::encode(mac(key, CHECKPOINT_LABEL, &[deployment.as_bytes(), &seq.to_be_bytes(), prev]))
}

/// Names a key without telling anything about it, hex.
pub(super) fn key_name(key: &Key) -> String {
    hex::encode(&mac(key, KEY_LABEL, &[])[..8])
}

/// The seed of the Ed25519 key that signs the log.
pub(super) fn sign_seed(key: &Key) -> Key {
    Key::new(mac(key, SIGN_LABEL, &[]))
}

/// The newest record that was made durable: one slot of the `head` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) segment: u64,
    pub(super) hash: Hash,
    pub(super) mac: String,
}

/// Bytes of one slot; the file has two, written in turn, so that a torn write leaves one whole.
pub(super) const SLOT: usize = 512;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHead {
    v: u32,
    seq: u64,
    segment: u64,
    hash: String,
    mac: String,
    sum: String,
}

impl Head {
    /// A head over the record `seq` with `hash`, in `segment`.
    pub(super) fn new(key: &Key, seq: u64, segment: u64, hash: Hash) -> Self {
        let mac = hex::encode(Self::keyed(key, seq, segment, &hash));
        Self { seq, segment, hash, mac }
    }

    fn keyed(key: &Key, seq: u64, segment: u64, hash: &Hash) -> Hash {
        mac(key, HEAD_LABEL, &[&seq.to_be_bytes(), &segment.to_be_bytes(), hash])
    }

    /// The MAC is this key's.
    pub(super) fn authentic(&self, key: &Key) -> bool {
        let expected = hex::encode(Self::keyed(key, self.seq, self.segment, &self.hash));
        crate::secret::same(expected.as_bytes(), self.mac.as_bytes())
    }

    fn sum(&self) -> String {
        let mut sum = Sha256::new();
        sum.update(self.seq.to_be_bytes());
        sum.update(self.segment.to_be_bytes());
        sum.update(self.hash);
        sum.update(self.mac.as_bytes());
        hex::encode(&sum.finalize()[..8])
    }

    /// The slot: one JSON line padded with spaces to [`SLOT`] bytes.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let raw = RawHead {
            v: 1,
            seq: self.seq,
            segment: self.segment,
            hash: hex::encode(self.hash),
            mac: self.mac.clone(),
            sum: self.sum(),
        };
        let mut slot = serde_json::to_vec(&raw)?;
        slot.resize(SLOT - 1, b' ');
        slot.push(b'\n');
        Ok(slot)
    }

    /// Reads one slot.
    pub(super) fn decode(slot: &[u8]) -> Result<Self, Malformed> {
        let line = slot.strip_suffix(b"\n").ok_or(Malformed)?;
        let text = std::str::from_utf8(line).map_err(|_| Malformed)?.trim_end_matches(' ');
        let raw: RawHead = serde_json::from_str(text).map_err(|_| Malformed)?;
        let head = Self { seq: raw.seq, segment: raw.segment, hash: unhex(&raw.hash)?, mac: raw.mac };
        // The exact bytes, so that no second spelling of a slot exists.
        let same = raw.v == 1 && raw.sum == head.sum() && head.encode().is_ok_and(|bytes| bytes == slot);
        if same { Ok(head) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    #[test]
    fn a_line_reads_back_and_any_other_byte_does_not() {
        let event = Event::new(EventKind::Login, 7);
        let mut line = Vec::new();
        let hash = encode(3, &[9; 32], Payload::Event(&event), &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        let record = decode(&line).unwrap();
        assert_eq!((record.seq, record.prev, record.hash), (3, [9; 32], hash));
        assert_eq!(super::event(&line).unwrap(), (3, event));
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut edited = line.clone();
                edited[at] ^= 1 << bit;
                assert!(decode(&edited).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_payload_moves_to_another_place_in_the_chain() {
        let event = Event::new(EventKind::Login, 7);
        let (mut line, mut moved, mut direct) = (Vec::new(), Vec::new(), Vec::new());
        encode(3, &[9; 32], Payload::Event(&event), &mut line);
        line.pop();
        encode(8, &[1; 32], Payload::Raw(payload(&line).unwrap()), &mut moved);
        encode(8, &[1; 32], Payload::Event(&event), &mut direct);
        assert_eq!(moved, direct);
    }

    #[test]
    fn a_head_slot_reads_back_and_any_other_byte_does_not() {
        let key = Key::new([5; 32]);
        let head = Head::new(&key, 12, 2, [3; 32]);
        let slot = head.encode().unwrap();
        assert_eq!(slot.len(), SLOT);
        assert_eq!(Head::decode(&slot).unwrap(), head);
        assert!(head.authentic(&key) && !head.authentic(&Key::new([6; 32])));
        for at in 0..slot.len() {
            let mut edited = slot.clone();
            edited[at] ^= 1;
            assert!(Head::decode(&edited).is_err(), "byte {at}");
        }
    }
}
