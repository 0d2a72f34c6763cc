//! Signed checkpoints: C2SP tlog-checkpoint in C2SP signed-note form, as anybody's transparency-log tools read them. Pure.
//!
//! In: a tree's size and root, or outside bytes. Out: a note, or whether a key signed one. Never: a lenient reading, a
//! secret in `Debug`.
//!
//! ```text
//! pgveil.log/0101…            origin: whose log, by the keyring's deployment id
//! 4711                        tree size
//! CsUYapGG…                   base64 of the root (RFC 6962 §2.1)
//!
//! — pgveil.log/0101… Az3gr…   base64 of 4 bytes key id ‖ 64 bytes Ed25519 signature over the three lines
//! ```
//!
//! Sources: <https://c2sp.org/tlog-checkpoint>, <https://c2sp.org/signed-note>, RFC 8032.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::record::{self, Hash};
use crate::secret::Key;

/// Signature type of the note format: Ed25519.
const ED25519: u8 = 1;
/// A longer note or key is none.
pub(super) const NOTE_MAX: usize = 16 * 1024;
/// More signatures on one note are none of ours or of a witness.
const SIGNATURES_MAX: usize = 16;

/// The origin of a deployment's log, and the name of the key that signs it.
pub(super) fn origin(deployment: &str) -> String {
    format!("pgveil.log/{deployment}")
}

/// First four bytes of SHA-256 over name, newline, type, public key.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update([b'\n', ED25519]);
    hash.update(key.as_bytes());
    let [a, b, c, d, ..]: Hash = hash.finalize().into();
    [a, b, c, d]
}

/// What signs a log. The seed follows from the audit key, so that no further secret has to be kept.
pub(super) struct Signer {
    origin: String,
    key: SigningKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(key: &Key, deployment: &str) -> Self {
        Self { origin: origin(deployment), key: SigningKey::from_bytes(record::sign_seed(key).expose()) }
    }

    /// What checks its signatures.
    pub(super) fn public(&self) -> VerifierKey {
        VerifierKey { name: self.origin.clone(), key: self.key.verifying_key() }
    }

    /// A signed statement that the tree of that size has that root.
    pub(super) fn sign(&self, size: u64, root: Hash) -> Note {
        let mut note = Note { origin: self.origin.clone(), size, root, signatures: Vec::new() };
        note.signatures.push(self.signature(&note.body()));
        note
    }

    /// Key name; key id and signature.
    pub(super) fn signature(&self, text: &str) -> (String, Vec<u8>) {
        let mut bytes = key_id(&self.origin, &self.key.verifying_key()).to_vec();
        bytes.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        (self.origin.clone(), bytes)
    }
}

/// The public half of the key that signs a log: what an auditor is given. Not a secret.
///
/// Written as `name+hash+key`: the log's origin, eight hex digits, base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The key whose signatures are in the log of that deployment.
    pub fn new(audit_key: &Key, deployment: &[u8; 16]) -> Self {
        Signer::new(audit_key, &hex::encode(deployment)).public()
    }

    /// It signed that text.
    pub(super) fn proves(&self, text: &str, (name, bytes): &(String, Vec<u8>)) -> bool {
        let id = key_id(&self.name, &self.key);
        let signature = bytes.strip_prefix(&id[..]).and_then(|bytes| Signature::from_slice(bytes).ok());
        *name == self.name && signature.is_some_and(|it| self.key.verify_strict(text.as_bytes(), &it).is_ok())
    }

    /// The name it signs under, which is the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads what [`VerifierKey`]'s `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('+')?;
        let (id, encoded) = rest.split_once('+')?;
        if text.len() > NOTE_MAX || !is_name(name) {
            return None;
        }
        let bytes: [u8; 33] = STANDARD.decode(encoded).ok()?.try_into().ok()?;
        let [ED25519, public @ ..] = bytes else { return None };
        let key = VerifyingKey::from_bytes(&public).ok()?;
        (id == hex::encode(key_id(name, &key))).then(|| Self { name: name.to_owned(), key })
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(key_id(&self.name, &self.key)), STANDARD.encode(bytes))
    }
}

/// Not empty, no space, no plus, no control character.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// Why a note proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// The key did not sign it: it has no signature of that name and key id.
    NotSigned,
    /// There is a signature of that name and key id, and it is wrong.
    Wrong,
}

/// A checkpoint with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    origin: String,
    size: u64,
    root: Hash,
    /// Key name; key id and signature.
    signatures: Vec<(String, Vec<u8>)>,
}

impl Note {
    /// Reads a note. What it says is not to be believed before [`Note::prove`].
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > NOTE_MAX {
            return None;
        }
        let (body, signatures) = text.split_once("\n\n")?;
        let mut lines = body.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if lines.next().is_some() || !is_name(origin) {
            return None;
        }
        let number: u64 = size.parse().ok()?;
        // Neither a sign nor leading zeros.
        if number.to_string() != size {
            return None;
        }
        let root: Hash = STANDARD.decode(root).ok()?.try_into().ok()?;
        let signatures: Vec<_> = signatures.strip_suffix('\n')?.split('\n').map(signature).collect::<Option<_>>()?;
        let known = signatures.len() <= SIGNATURES_MAX;
        known.then(|| Self { origin: origin.to_owned(), size: number, root, signatures })
    }

    /// The last note of a text that may hold several, one after the other, as a file of anchors does.
    pub fn last_of(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('\n');
        let start = text.rfind("\npgveil.log/").map_or(0, |at| at + 1);
        Self::parse(&format!("{}\n", &text[start..]))
    }

    /// Whose log it speaks of.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many records the tree had.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over them.
    pub fn root(&self) -> [u8; 32] {
        self.root
    }

    /// As pgveil writes it: one signature.
    pub(super) fn is_plain(&self) -> bool {
        self.signatures.len() == 1
    }

    /// What is signed.
    fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// That key signed it. Signatures of others, such as witnesses, are passed over.
    ///
    /// # Errors
    /// It did not.
    pub fn prove(&self, key: &VerifierKey) -> Result<(), Unproven> {
        let id = key_id(&key.name, &key.key);
        let mut ours =
            self.signatures.iter().filter(|(name, bytes)| *name == key.name && bytes.starts_with(&id)).peekable();
        if self.origin != key.name || ours.peek().is_none() {
            return Err(Unproven::NotSigned);
        }
        let body = self.body();
        if ours.all(|signature| key.proves(&body, signature)) { Ok(()) } else { Err(Unproven::Wrong) }
    }
}

pub(super) fn signature(line: &str) -> Option<(String, Vec<u8>)> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    (is_name(name) && bytes.len() > 4).then(|| (name.to_owned(), bytes))
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.body())?;
        for (name, bytes) in &self.signatures {
            writeln!(f, "— {name} {}", STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::new(&Key::new([7; 32]), &"01".repeat(16))
    }

    /// The example of golang.org/x/mod/sumdb/note, where the format comes from.
    #[test]
    fn keys_and_signatures_are_byte_for_byte_those_of_the_go_implementation() {
        let public = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let secret = STANDARD.decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz").unwrap();
        let key = SigningKey::from_bytes(secret[1..].try_into().unwrap());
        let signer = Signer { origin: "PeterNeumann".to_owned(), key };
        assert_eq!(signer.public().to_string(), public);
        assert_eq!(VerifierKey::parse(public).unwrap(), signer.public());
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let signed = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        assert_eq!(signer.signature(text), ("PeterNeumann".to_owned(), STANDARD.decode(signed).unwrap()));
    }

    /// The example of <https://c2sp.org/tlog-checkpoint>.
    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn other_logs_checkpoints_are_read_but_not_ours() {
        let note = Note::parse(EXAMPLE).unwrap();
        assert_eq!(
            (note.origin(), note.size(), note.to_string().as_str()),
            ("example.com/behind-the-sofa", 20_852_163, EXAMPLE)
        );
        assert_eq!(note.prove(&signer().public()), Err(Unproven::NotSigned));
    }

    #[test]
    fn a_note_reads_back_and_any_other_byte_makes_it_worthless() {
        let (signer, public) = (signer(), signer().public());
        let text = signer.sign(4_711, [9; 32]).to_string();
        let note = Note::parse(&text).unwrap();
        assert_eq!(
            (note.size(), note.root(), note.to_string(), note.prove(&public)),
            (4_711, [9; 32], text.clone(), Ok(()))
        );
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut edited = text.clone().into_bytes();
                edited[at] ^= 1 << bit;
                let proven = String::from_utf8(edited).ok().and_then(|text| Note::parse(&text)?.prove(&public).ok());
                assert_eq!(proven, None, "byte {at} bit {bit}");
            }
        }
        for cut in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            assert_eq!(Note::parse(&text[..cut]), None, "cut at {cut}");
        }
        for wrong in
            [format!("{text}\n"), format!("\n{text}"), text.replace("4711", "+4711"), text.replace("4711", "04711")]
        {
            assert_eq!(Note::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn witnesses_may_sign_too_and_a_wrong_signature_under_our_name_spoils_a_note() {
        let (signer, public) = (signer(), signer().public());
        let mut note = signer.sign(1, [9; 32]);
        let witness = Signer::new(&Key::new([8; 32]), &"02".repeat(16));
        note.signatures.insert(0, witness.signature(&note.body()));
        assert_eq!(
            (note.is_plain(), note.prove(&public), note.prove(&witness.public())),
            (false, Ok(()), Err(Unproven::NotSigned))
        );
        assert_eq!(Note::parse(&note.to_string()).unwrap(), note);
        note.signatures.push(signer.signature("something else"));
        assert_eq!(note.prove(&public), Err(Unproven::Wrong));
        note.signatures.truncate(1);
        assert_eq!(note.prove(&public), Err(Unproven::NotSigned));
        note.signatures = vec![signer.signature("x"); SIGNATURES_MAX + 1];
        assert_eq!(Note::parse(&note.to_string()), None);
    }

    #[test]
    fn a_verifier_key_reads_back_and_any_other_byte_does_not() {
        let key = VerifierKey::new(&Key::new([7; 32]), &[1; 16]);
        let text = key.to_string();
        assert_eq!(VerifierKey::parse(&text).as_ref(), Some(&key));
        assert_eq!(key.name(), format!("pgveil.log/{}", "01".repeat(16)));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut edited = text.clone().into_bytes();
                edited[at] ^= 1 << bit;
                let read = String::from_utf8(edited).ok().and_then(|text| VerifierKey::parse(&text));
                assert_eq!(read, None, "byte {at} bit {bit}");
            }
        }
        for cut in 0..text.len() {
            assert_eq!(VerifierKey::parse(&text[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_signer_prints_no_secret() {
        let shown = format!("{:?}", signer());
        assert_eq!(shown, format!("Signer {{ origin: \"pgveil.log/{}\", .. }}", "01".repeat(16)));
    }
}
