//! The keyring file's form. Hostile until its MAC has been checked.
//!
//! TOML, in exactly the form [`Document::render`] writes, then `[integrity]`: a SHA-256 checksum, which tells damage
//! from a wrong passphrase, and a MAC under the KEK, which tells everything else.

use std::fmt::Write as _;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::kek::Cost;
use crate::crypto::{Column, KekKeys, KeyInfo, SealMode, WRAPPED_LEN};

const VERSION: u32 = 1;
const HEADING: &str = "\
# pgveil keyring: all keys, wrapped. Every byte is authenticated; an edited file does not load.
# Keep a copy, and keep its passphrase or key file elsewhere: without both, sealed columns are lost.
";
const INTEGRITY: &str = "\n[integrity]\n";

const DEK_AAD: &[u8] = b"pgveil1/wrapped-dek\0";
const INDEX_AAD: &[u8] = b"pgveil1/wrapped-index-secret\0";

/// A DEK is wrapped for one deployment, one key id and one column.
pub(super) fn dek_aad(deployment_id: &[u8; 16], info: &KeyInfo) -> Vec<u8> {
    [DEK_AAD, deployment_id, &info.id.to_be_bytes(), &info.column_id.to_be_bytes()].concat()
}

/// The index secret is wrapped for one deployment.
pub(super) fn index_aad(deployment_id: &[u8; 16]) -> Vec<u8> {
    [INDEX_AAD, deployment_id].concat()
}

/// A keyring file's content. Holds no unwrapped key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub(super) generation: u64,
    pub(super) deployment_id: [u8; 16],
    pub(super) next_column_id: u32,
    pub(super) next_key_id: u64,
    pub(super) index_secret: [u8; WRAPPED_LEN],
    pub(super) kek: KekSource,
    pub(super) kek_check: [u8; 32],
    pub(super) columns: Vec<Column>,
    pub(super) keys: Vec<KeyRecord>,
}

/// What the KEK is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KekSource {
    Passphrase { salt: [u8; 16], cost: Cost },
    KeyFile,
}

/// One wrapped DEK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRecord {
    pub(super) info: KeyInfo,
    pub(super) wrapped: [u8; WRAPPED_LEN],
    pub(super) commitment: [u8; 32],
}

/// A MAC that has not been checked.
#[derive(Debug)]
pub struct UncheckedMac<'a> {
    pub(super) covers: &'a [u8],
    pub(super) value: [u8; 32],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u32,
    generation: u64,
    deployment_id: String,
    next_column_id: u32,
    next_key_id: u64,
    index_secret: String,
    kek: RawKek,
    #[serde(default)]
    columns: Vec<RawColumn>,
    #[serde(default)]
    keys: Vec<RawKey>,
}

#[derive(Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case", deny_unknown_fields)]
enum RawKek {
    Passphrase { salt: String, memory_kib: u32, passes: u32, lanes: u32, check: String },
    KeyFile { check: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawColumn {
    id: u32,
    system_identifier: String,
    database: String,
    column: String,
    mode: RawMode,
    equality_domain: u32,
    #[serde(default)]
    retired: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawMode {
    Randomized,
    Deterministic,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    id: u64,
    column_id: u32,
    created_unix_s: i64,
    wrapped: String,
    commitment: String,
}

impl Document {
    /// Reads a whole file whose checksum fits. The error says what is wrong without quoting the file.
    pub fn parse(bytes: &[u8]) -> Result<(Self, UncheckedMac<'_>), String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8")?;
        let (body, trailer) = text.rsplit_once(INTEGRITY).ok_or("no [integrity] section at its end")?;
        let (checksum, mac) = parse_trailer(trailer).ok_or("the [integrity] section is not in its form")?;
        if Sha256::digest(body.as_bytes()).as_slice() != checksum {
            return Err("the checksum does not fit".into());
        }
        Ok((Self::parse_body(body)?, UncheckedMac { covers: body.as_bytes(), value: mac }))
    }

    /// Reads what stands before `[integrity]`.
    pub fn parse_body(body: &str) -> Result<Self, String> {
        let raw: Raw = toml::from_str(body).map_err(|error| error.message().to_owned())?;
        if raw.version != VERSION {
            return Err(format!("version {} is not known to this pgveil", raw.version));
        }
        let (kek, check) = match raw.kek {
            RawKek::Passphrase { salt, memory_kib, passes, lanes, check } => {
                let cost = Cost { memory_kib, passes, lanes };
                if !cost.is_sane() {
                    return Err("the Argon2id parameters are out of bounds".into());
                }
                (KekSource::Passphrase { salt: bytes("salt", &salt)?, cost }, check)
            }
            RawKek::KeyFile { check } => (KekSource::KeyFile, check),
        };
        let document = Self {
            generation: raw.generation,
            deployment_id: bytes("deployment_id", &raw.deployment_id)?,
            next_column_id: raw.next_column_id,
            next_key_id: raw.next_key_id,
            index_secret: bytes("index_secret", &raw.index_secret)?,
            kek,
            kek_check: bytes("check", &check)?,
            columns: raw.columns.into_iter().map(RawColumn::checked).collect::<Result<_, _>>()?,
            keys: raw.keys.into_iter().map(RawKey::checked).collect::<Result<_, _>>()?,
        };
        // Ids are handed out upwards, so one at or above the counter would be handed out again.
        if document.columns.iter().any(|c| c.id >= document.next_column_id)
            || document.keys.iter().any(|k| k.info.id >= document.next_key_id)
        {
            return Err("an id is not below its counter".into());
        }
        Ok(document)
    }

    /// The whole file.
    pub(super) fn render(&self, kek: &KekKeys) -> String {
        let mut text = self.render_body();
        let checksum = hex::encode(Sha256::digest(text.as_bytes()));
        let mac = hex::encode(kek.file_mac(text.as_bytes()));
        text.push_str(INTEGRITY);
        push(&mut text, format_args!("checksum = \"{checksum}\"\nmac = \"{mac}\"\n"));
        text
    }

    pub(super) fn render_body(&self) -> String {
        let mut text = HEADING.to_owned();
        let Self { generation, next_column_id, next_key_id, .. } = self;
        push(&mut text, format_args!("version = {VERSION}\ngeneration = {generation}\n"));
        push(&mut text, format_args!("deployment_id = \"{}\"\n", hex::encode(self.deployment_id)));
        push(&mut text, format_args!("next_column_id = {next_column_id}\nnext_key_id = {next_key_id}\n"));
        push(&mut text, format_args!("index_secret = \"{}\"\n\n[kek]\n", hex::encode(self.index_secret)));
        match &self.kek {
            KekSource::KeyFile => text.push_str("source = \"key-file\"\n"),
            KekSource::Passphrase { salt, cost: Cost { memory_kib, passes, lanes } } => {
                push(&mut text, format_args!("source = \"passphrase\"\nsalt = \"{}\"\n", hex::encode(salt)));
                push(&mut text, format_args!("memory_kib = {memory_kib}\npasses = {passes}\nlanes = {lanes}\n"));
            }
        }
        push(&mut text, format_args!("check = \"{}\"\n", hex::encode(self.kek_check)));
        self.columns.iter().for_each(|column| render_column(&mut text, column));
        for KeyRecord { info, wrapped, commitment } in &self.keys {
            let KeyInfo { id, column_id, created_unix_s } = info;
            push(&mut text, format_args!("\n[[keys]]\nid = {id}\ncolumn_id = {column_id}\n"));
            push(&mut text, format_args!("created_unix_s = {created_unix_s}\n"));
            push(&mut text, format_args!("wrapped = \"{}\"\n", hex::encode(wrapped)));
            push(&mut text, format_args!("commitment = \"{}\"\n", hex::encode(commitment)));
        }
        text
    }
}

impl RawColumn {
    fn checked(self) -> Result<Column, String> {
        Ok(Column {
            id: self.id,
            system_identifier: self.system_identifier.parse().map_err(|_| "system_identifier is not a number")?,
            database: self.database,
            column: self.column,
            mode: match self.mode {
                RawMode::Randomized => SealMode::Randomized,
                RawMode::Deterministic => SealMode::Deterministic,
            },
            equality_domain: self.equality_domain,
            retired: self.retired,
        })
    }
}

impl RawKey {
    fn checked(self) -> Result<KeyRecord, String> {
        let info = KeyInfo { id: self.id, column_id: self.column_id, created_unix_s: self.created_unix_s };
        let (wrapped, commitment) = (bytes("wrapped", &self.wrapped)?, bytes("commitment", &self.commitment)?);
        Ok(KeyRecord { info, wrapped, commitment })
    }
}

fn render_column(text: &mut String, column: &Column) {
    let Column { id, system_identifier, equality_domain, .. } = column;
    push(text, format_args!("\n[[columns]]\nid = {id}\nsystem_identifier = \"{system_identifier}\"\n"));
    push(text, format_args!("database = {}\ncolumn = {}\n", Quoted(&column.database), Quoted(&column.column)));
    let mode = match column.mode {
        SealMode::Randomized => "randomized",
        SealMode::Deterministic => "deterministic",
    };
    push(text, format_args!("mode = \"{mode}\"\nequality_domain = {equality_domain}\n"));
    if column.retired {
        text.push_str("retired = true\n");
    }
}

/// A TOML basic string.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    text.write_fmt(line).expect("a String takes what is written");
}

/// Exactly `checksum = "…"` and `mac = "…"`, lower-case hex, a line end each.
fn parse_trailer(trailer: &str) -> Option<([u8; 32], [u8; 32])> {
    let (checksum, mac) = trailer.strip_prefix("checksum = \"")?.split_once("\"\nmac = \"")?;
    let mac = mac.strip_suffix("\"\n")?;
    Some((bytes("checksum", checksum).ok()?, bytes("mac", mac).ok()?))
}

/// Lower-case hex of exactly N bytes.
fn bytes<const N: usize>(name: &str, text: &str) -> Result<[u8; N], String> {
    let mut out = [0; N];
    let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut out) {
        Ok(()) if lower => Ok(out),
        _ => Err(format!("`{name}` is not {N} bytes in lower-case hex")),
    }
}
