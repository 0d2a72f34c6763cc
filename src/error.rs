//! What can go wrong, sorted by who is at fault, and the wire answer derived from it.
//!
//! A [`Refusal`] is what a client is told: a stable `PV0nn` [`Code`], the SQLSTATE derived from it, a message that
//! names columns and operations but never values, and a hint with the way out.

use std::borrow::Cow;
use std::fmt;

macro_rules! codes {
    ($($name:ident = $text:literal, $sqlstate:literal, $doc:literal;)*) => {
        /// Stable error codes. The README's table is generated from [`Code::ALL`] and checked by a test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $doc] $name,)* }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// `PV0nn`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The SQLSTATE a client sees unless the refusal carries a more precise one.
            pub fn sqlstate(self) -> SqlState {
                match self { $(Code::$name => SqlState(*$sqlstate),)* }
            }

            /// One line for the README's table.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $doc,)* }
            }
        }
    };
}

codes! {
    Protocol = "PV002", b"08P01", "The client or server broke the PostgreSQL protocol.";
    TlsRequired = "PV003", b"28000", "The connection must use TLS.";
    TrustRefused = "PV004", b"28000", "The server let the client in without a password; that proves no actor.";
    UpstreamDown = "PV005", b"57P03", "The PostgreSQL server cannot be reached.";
    DatabaseNotServed = "PV006", b"3D000", "This database is neither the policy's nor listed in [databases] passthrough.";
    TooManyConnections = "PV007", b"53300", "The proxy's connection limit is reached.";
    Draining = "PV008", b"57P01", "The proxy is shutting down.";
    Limit = "PV009", b"54000", "A configured limit would be exceeded.";
    Stopped = "PV010", b"42501", "The breach detector stopped this statement.";
    SealedUse = "PV011", b"0A000", "This operation is not possible on a sealed column.";
    SearchDenied = "PV012", b"42501", "Searching or writing this sealed column needs clearance.";
    AboveClearance = "PV013", b"42501", "A plaintext column above the role's clearance.";
    Unreadable = "PV014", b"0A000", "The statement names a protected table and could not be read completely.";
    EnvelopeInbound = "PV015", b"42501", "A client sent an envelope of this deployment.";
    BadValue = "PV016", b"22P02", "A value does not fit the column's type.";
    DoesNotOpen = "PV017", b"XX001", "A sealed cell does not open: tampered with, moved, or sealed with another key.";
    FunctionDenied = "PV018", b"42501", "This statement or function is not available to a role that may not see everything.";
    Pinned = "PV019", b"55P02", "pgveil pins this session setting.";
    ReservedName = "PV020", b"42939", "Names beginning with pgveil_ are reserved.";
    AuditDown = "PV021", b"58030", "The access log cannot be written, so protected data is not released.";
    CatalogStale = "PV022", b"55000", "The table changed in this transaction, or its definition is not known yet.";
    ReplicationRefused = "PV023", b"42501", "Replication connections are not granted.";
    FastPathRefused = "PV024", b"0A000", "Function-call messages are not available on a protected database, but for large objects.";
    ParameterType = "PV025", b"42804", "A parameter's declared type does not convert to the sealed column's type.";
    NotSealedYet = "PV026", b"55000", "The policy encrypts this column but the table still holds plaintext.";
    AuthMethod = "PV027", b"28000", "The authentication methods of client and server do not go together.";
    WrongPassword = "PV028", b"28P01", "The password is wrong, or there is no such login.";
    NotAllowed = "PV029", b"28000", "No rule of [listen] lets this connection in.";
    RowLimit = "PV030", b"54000", "A statement would release more rows of a protected table than its role's max_rows.";
    UnprotectedCopy = "PV031", b"42501", "The statement would make an unprotected copy of a protected plaintext column.";
    PurposeDenied = "PV032", b"42501", "The login may not act for the purpose that it claims.";
    Quarantined = "PV033", b"28000", "The login is quarantined until somebody releases it.";
    Killed = "PV034", b"57P01", "The breach detector ended the session.";
    PersonDenied = "PV038", b"42501", "Who is said to be behind a shared login is not proven.";
    ConsoleDenied = "PV040", b"42501", "The console, or this command of it, is not open to the role.";
    ConsoleCommand = "PV041", b"42601", "The console does not know this command, or could not carry it out.";
    Internal = "PV099", b"XX000", "A defect in pgveil; the connection is closed.";
}

/// Five characters, as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client is told instead of an answer. Holds names, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule.
    pub code: Code,
    /// The SQLSTATE sent.
    pub sqlstate: SqlState,
    /// Names the column and the operation.
    pub message: Cow<'static, str>,
    /// The way out.
    pub hint: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with the code's own SQLSTATE.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { code, sqlstate: code.sqlstate(), message: message.into(), hint: hint.into() }
    }

    /// The same refusal under a more precise SQLSTATE.
    pub fn with_sqlstate(mut self, sqlstate: SqlState) -> Self {
        self.sqlstate = sqlstate;
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Refusal {}

/// An error of the library, by fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer on the client side broke the protocol.
    #[error("client: {0}")]
    Client(Refusal),
    /// The server broke the protocol; names what was wrong, never bytes.
    #[error("server: {0}")]
    Server(&'static str),
    /// A policy or rule said no.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Keys or keyring.
    #[error("keys: {0}")]
    Key(String),
    /// Configuration or policy.
    #[error("{0}")]
    Config(String),
    /// The operating system.
    #[error("{what}: {said}")]
    Io {
        /// What was being done, to which file or address.
        what: String,
        /// What the system said. Part of the message, so not a `source` that a reporter would print again.
        said: std::io::Error,
    },
    /// A query on the control connection failed.
    #[error("control connection: {0}")]
    Control(String),
    /// The server cannot be reached, or not yet: the control connection is worth another attempt.
    #[error("control connection: {0}")]
    Unreachable(String),
    /// A defect of ours.
    #[error("bug: {0}")]
    Bug(&'static str),
}

impl Error {
    /// Wraps an I/O error with what was being done.
    pub fn io(what: impl Into<String>, said: std::io::Error) -> Self {
        Self::Io { what: what.into(), said }
    }
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
