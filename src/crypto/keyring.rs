//! Who holds which key: immutable once built, shared by `Arc`, every cipher and HMAC prepared.

use super::derive::{Prf, Purpose, commitment, derive};
use super::envelope::{AadPrefix, Cell, CellKey, aad_prefix};
use super::header::{Header, SealMode, flags};
use super::token::{self, OrderToken, OrderValue, TOKEN_LEN};
use crate::event::Pseudonym;
use crate::secret::{Entropy, Key, same};

/// Why a cell was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The column id is not in the keyring.
    #[error("the keyring has no such column")]
    UnknownColumn,
    /// Deterministic sealing under a column that has more than one key would give one value two envelopes.
    #[error("a deterministic column has exactly one key, this one has several")]
    SeveralKeys,
    /// Type code, flags and token do not make an envelope.
    #[error("no envelope has this type and these features")]
    Format,
}

/// Why an envelope was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The bytes are not an envelope.
    #[error("not an envelope")]
    NotAnEnvelope,
    /// An envelope of a column that is not in the keyring.
    #[error("an envelope of a column the keyring does not know")]
    UnknownColumn,
    /// Its key id is not one of that column's keys.
    #[error("sealed with a key the keyring does not hold for this column")]
    UnknownKey,
    /// Row-bound without a row key, or padded: features of the format that policy refuses today.
    #[error("an envelope with a reserved feature")]
    Reserved,
    /// Tampered with, moved from another column, or of another deployment.
    #[error("does not authenticate")]
    DoesNotAuthenticate,
}

/// Why a keyring cannot be built. Names ids, never keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Ids start at 1.
    #[error("column id 0 and key id 0 are reserved")]
    ZeroId,
    /// Two columns with one id.
    #[error("column id {0} appears twice")]
    DuplicateColumn(u32),
    /// Two keys with one id.
    #[error("key id {0} appears twice")]
    DuplicateKey(u64),
    /// Two live columns with one name.
    #[error("column ids {0} and {1} are bound to the same column")]
    DuplicateBinding(u32, u32),
    /// A key of no column.
    #[error("key id {0} belongs to column id {1}, which does not exist")]
    OrphanKey(u64, u32),
    /// A column without a key.
    #[error("column id {0} has no key")]
    NoKey(u32),
    /// A deterministic column with more than one key.
    #[error("column id {0} is deterministic and has more than one key")]
    SeveralKeys(u32),
    /// A key that is not the one its record was made for.
    #[error("key id {0} does not match its commitment")]
    Commitment(u64),
}

/// A column as the keyring knows it: (system identifier, database, schema.table.column) → id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Never reused.
    pub id: u32,
    /// `pg_control_system().system_identifier` of the cluster.
    pub system_identifier: u64,
    /// Database name.
    pub database: String,
    /// `schema.table.column`.
    pub column: String,
    /// How its cells are sealed.
    pub mode: SealMode,
    /// The smallest column id of its equality domain; its own id if it has none.
    pub equality_domain: u32,
    /// No longer bound to its name; its cells still open.
    pub retired: bool,
}

/// A column and the state of its keys.
#[derive(Clone, Copy, Debug)]
pub struct ColumnInfo<'a> {
    /// Its binding.
    pub column: &'a Column,
    /// How many keys open its cells.
    pub keys: usize,
    /// The key that seals.
    pub newest_key: u64,
    /// When that key was made, seconds since 1970.
    pub newest_key_unix_s: i64,
}

/// A key, without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Unique in the keyring.
    pub id: u64,
    /// Whose.
    pub column_id: u32,
    /// Seconds since 1970.
    pub created_unix_s: i64,
}

/// Format features that policy refuses today; the vectors hold them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// Prefix an equality token.
    pub equality: bool,
    /// Prefix an order token of this value.
    pub order: Option<OrderValue>,
    /// Bind to the row with this canonical primary key.
    pub row_key: Option<&'a [u8]>,
}

/// All keys of a deployment, ready for use.
pub struct Keyring {
    deployment_id: [u8; 16],
    prefix: AadPrefix,
    /// Ascending by id.
    columns: Vec<ColumnKeys>,
    /// Ascending by id.
    keys: Vec<DataKey>,
    subject: Prf,
    audit: Key,
}

struct ColumnKeys {
    column: Column,
    /// Position in `Keyring::keys` of the key with the highest id.
    newest: usize,
    keys: usize,
    token: Prf,
    order: Prf,
}

struct DataKey {
    info: KeyInfo,
    cell: CellKey,
}

impl Keyring {
    /// Starts an empty ring. `index_secret` is the root of tokens and pseudonyms.
    pub fn builder(deployment_id: [u8; 16], index_secret: Key) -> Builder {
        Builder { deployment_id, index_secret, columns: Vec::new(), keys: Vec::new() }
    }

    /// A ring for tests and benches: randomized columns `(id, "schema.table.column")` of `database` on cluster 0, all
    /// keys hashed from `seed`. A seed in source code protects nothing.
    pub fn for_tests(seed: &[u8; 32], database: &str, columns: &[(u32, &str)]) -> Result<Keyring, RingError> {
        let root = Prf::new(&Key::new(*seed));
        let mut deployment_id = [0; 16];
        deployment_id.copy_from_slice(&root.compute(&[b"deployment"])[..16]);
        let mut builder = Self::builder(deployment_id, Key::new(root.compute(&[b"index"])));
        for &(id, column) in columns {
            builder.column(Column {
                id,
                system_identifier: 0,
                database: database.into(),
                column: column.into(),
                mode: SealMode::Randomized,
                equality_domain: id,
                retired: false,
            });
            let dek = Key::new(root.compute(&[b"dek", &id.to_be_bytes()]));
            let info = KeyInfo { id: u64::from(id), column_id: id, created_unix_s: 0 };
            builder.key(info, &dek, &commitment(&deployment_id, &dek))?;
        }
        builder.build()
    }

    /// Names the deployment in every AAD and derivation.
    pub fn deployment_id(&self) -> &[u8; 16] {
        &self.deployment_id
    }

    /// The id bound to `schema.table.column` in that database; `None` if it is bound in no cluster, or in several.
    pub fn column_id(&self, database: &str, column: &str) -> Option<u32> {
        let mut bound = self.bound(database, column);
        let id = bound.next()?.id;
        bound.next().is_none().then_some(id)
    }

    /// The id bound to `schema.table.column` in that database of that cluster.
    pub fn column_id_in(&self, system_identifier: u64, database: &str, column: &str) -> Option<u32> {
        self.bound(database, column).find(|c| c.system_identifier == system_identifier).map(|c| c.id)
    }

    fn bound(&self, database: &str, column: &str) -> impl Iterator<Item = &Column> {
        let named = move |c: &&Column| !c.retired && c.database == database && c.column == column;
        self.columns.iter().map(|c| &c.column).filter(named)
    }

    /// Whether cells of that column can be opened.
    pub fn has_column(&self, column_id: u32) -> bool {
        self.find(column_id).is_some()
    }

    /// Every column, ascending by id.
    pub fn columns(&self) -> impl Iterator<Item = ColumnInfo<'_>> {
        self.columns.iter().map(|c| {
            let newest = self.keys[c.newest].info;
            let (newest_key, newest_key_unix_s) = (newest.id, newest.created_unix_s);
            ColumnInfo { column: &c.column, keys: c.keys, newest_key, newest_key_unix_s }
        })
    }

    /// Every key, ascending by id.
    pub fn keys(&self) -> impl Iterator<Item = KeyInfo> {
        self.keys.iter().map(|k| k.info)
    }

    /// A person's name in the access log: 32 hex digits, the same for the same person, linkable to them only with
    /// this keyring. HMAC-SHA-256 under the index secret's `subject` key of `kind` ‖ 00 ‖ `key`, first 16 bytes. `kind`
    /// is an identifier and holds no zero byte, so no two (kind, key) pairs are one input.
    pub fn subject_pseudonym(&self, kind: &str, key: &[u8]) -> Pseudonym {
        let mac = self.subject.compute(&[kind.as_bytes(), &[0], key]);
        Pseudonym(mac[..16].iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
    }

    /// The key of the access log's checkpoints and head.
    pub fn audit_key(&self) -> &Key {
        &self.audit
    }

    /// Appends the envelope of `plaintext` to `out`, under the column's newest key; nothing on an error.
    pub fn seal(
        &self,
        column_id: u32,
        mode: SealMode,
        type_code: u8,
        plaintext: &[u8],
        entropy: &mut dyn Entropy,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        self.seal_with(column_id, mode, type_code, plaintext, &Extras::default(), entropy, out)
    }

    /// [`Keyring::seal`] with tokens or row binding.
    #[allow(clippy::too_many_arguments, reason = "an envelope's parts; only the vectors' features need all of them")]
    pub fn seal_with(
        &self,
        column_id: u32,
        mode: SealMode,
        type_code: u8,
        plaintext: &[u8],
        extras: &Extras<'_>,
        entropy: &mut dyn Entropy,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let column = self.find(column_id).ok_or(SealError::UnknownColumn)?;
        if mode == SealMode::Deterministic && column.keys != 1 {
            return Err(SealError::SeveralKeys);
        }
        let equality = extras.equality.then(|| token::equality(&column.token, plaintext));
        let order = extras.order.map(|value| token::order(&column.order, value));
        let (token, token_flag): (&[u8], u8) = match (&equality, &order) {
            (None, None) => (&[], 0),
            (Some(token), None) => (token, flags::EQUALITY),
            (None, Some(token)) => (token.as_bytes(), flags::ORDER),
            (Some(_), Some(_)) => return Err(SealError::Format),
        };
        let row_flag = if extras.row_key.is_some() { flags::ROW_BOUND } else { 0 };
        let key = &self.keys[column.newest];
        let header = Header {
            mode,
            type_code,
            flags: token_flag | row_flag,
            token_len: u16::try_from(token.len()).map_err(|_| SealError::Format)?,
            column_id,
            key_id: key.info.id,
        };
        let cell = Cell { prefix: &self.prefix, header, token, row_key: extras.row_key };
        key.cell.seal(&cell, plaintext, entropy, out).ok_or(SealError::Format)
    }

    /// Appends the plaintext to `out`; nothing on an error.
    pub fn open(&self, envelope: &[u8], out: &mut Vec<u8>) -> Result<Header, OpenError> {
        self.open_in_row(envelope, None, out)
    }

    /// [`Keyring::open`] for an envelope that may be bound to the row with that canonical primary key.
    pub fn open_in_row(&self, envelope: &[u8], row_key: Option<&[u8]>, out: &mut Vec<u8>) -> Result<Header, OpenError> {
        let header = Header::parse(envelope).ok_or(OpenError::NotAnEnvelope)?;
        let key = match self.keys.binary_search_by_key(&header.key_id, |k| k.info.id) {
            Ok(at) if self.keys[at].info.column_id == header.column_id => &self.keys[at],
            _ if self.has_column(header.column_id) => return Err(OpenError::UnknownKey),
            _ => return Err(OpenError::UnknownColumn),
        };
        let row_key = match (header.flags & flags::ROW_BOUND != 0, row_key) {
            (false, _) => None,
            (true, Some(row_key)) => Some(row_key),
            (true, None) => return Err(OpenError::Reserved),
        };
        if header.flags & flags::PADDED != 0 {
            return Err(OpenError::Reserved);
        }
        key.cell.open(&self.prefix, &header, envelope, row_key, out).ok_or(OpenError::DoesNotAuthenticate)?;
        Ok(header)
    }

    /// The equality token of a canonical value: the 16 bytes that `substr(column, 21, 16)` of its envelopes gives.
    pub fn equality_token(&self, column_id: u32, canonical: &[u8]) -> Option<[u8; TOKEN_LEN]> {
        Some(token::equality(&self.find(column_id)?.token, canonical))
    }

    /// The order token of a value: what `substr(column, 21, T)` of its envelopes gives.
    pub fn order_token(&self, column_id: u32, value: OrderValue) -> Option<OrderToken> {
        Some(token::order(&self.find(column_id)?.order, value))
    }

    fn find(&self, column_id: u32) -> Option<&ColumnKeys> {
        let at = self.columns.binary_search_by_key(&column_id, |c| c.column.id).ok()?;
        Some(&self.columns[at])
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} columns, {} keys, …)", self.columns.len(), self.keys.len())
    }
}

/// Collects columns and keys, then checks that they make a ring.
pub struct Builder {
    deployment_id: [u8; 16],
    index_secret: Key,
    columns: Vec<Column>,
    keys: Vec<DataKey>,
}

impl Builder {
    /// Adds a column.
    pub fn column(&mut self, column: Column) {
        self.columns.push(column);
    }

    /// Adds a key and prepares its ciphers. Refused when `dek` is not the key that `committed` was made from.
    pub fn key(&mut self, info: KeyInfo, dek: &Key, committed: &[u8; 32]) -> Result<(), RingError> {
        if !same(&commitment(&self.deployment_id, dek), committed) {
            return Err(RingError::Commitment(info.id));
        }
        let cell = CellKey::new(&self.deployment_id, dek, info.column_id);
        self.keys.push(DataKey { info, cell });
        Ok(())
    }

    /// The ring, if ids are unique and non-zero, every key has its column, every column a key (a deterministic one
    /// exactly one), and no two live columns one name.
    pub fn build(self) -> Result<Keyring, RingError> {
        let Self { deployment_id, index_secret, mut columns, mut keys } = self;
        columns.sort_by_key(|c| c.id);
        keys.sort_by_key(|k| k.info.id);
        check_ids(&columns, &keys)?;
        check_bindings(&columns)?;
        let search = |purpose, id| Prf::new(&derive(&deployment_id, &index_secret, purpose, id));
        let mut ring = Vec::with_capacity(columns.len());
        for column in columns {
            let of_column = || keys.iter().enumerate().filter(|(_, k)| k.info.column_id == column.id);
            let count = of_column().count();
            let (newest, _) = of_column().next_back().ok_or(RingError::NoKey(column.id))?;
            if column.mode == SealMode::Deterministic && count > 1 {
                return Err(RingError::SeveralKeys(column.id));
            }
            let token = search(Purpose::Token, column.equality_domain);
            let order = search(Purpose::Order, column.equality_domain);
            ring.push(ColumnKeys { column, newest, keys: count, token, order });
        }
        let subject = search(Purpose::Subject, 0);
        let audit = derive(&deployment_id, &index_secret, Purpose::Audit, 0);
        Ok(Keyring { deployment_id, prefix: aad_prefix(&deployment_id), columns: ring, keys, subject, audit })
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Builder({} columns, {} keys, …)", self.columns.len(), self.keys.len())
    }
}

fn check_ids(columns: &[Column], keys: &[DataKey]) -> Result<(), RingError> {
    if columns.first().is_some_and(|c| c.id == 0) || keys.first().is_some_and(|k| k.info.id == 0) {
        return Err(RingError::ZeroId);
    }
    if let Some(pair) = columns.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(RingError::DuplicateColumn(pair[0].id));
    }
    if let Some(pair) = keys.windows(2).find(|pair| pair[0].info.id == pair[1].info.id) {
        return Err(RingError::DuplicateKey(pair[0].info.id));
    }
    let orphan = |k: &&DataKey| columns.binary_search_by_key(&k.info.column_id, |c| c.id).is_err();
    match keys.iter().find(orphan) {
        Some(key) => Err(RingError::OrphanKey(key.info.id, key.info.column_id)),
        None => Ok(()),
    }
}

fn check_bindings(columns: &[Column]) -> Result<(), RingError> {
    let mut names: Vec<_> = columns
        .iter()
        .filter(|c| !c.retired)
        .map(|c| ((c.system_identifier, c.database.as_str(), c.column.as_str()), c.id))
        .collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(RingError::DuplicateBinding(pair[0].1, pair[1].1)),
        None => Ok(()),
    }
}
