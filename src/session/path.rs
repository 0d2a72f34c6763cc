//! The search path of a class with a lens: before each schema with views of its lens stands the schema of these.
//!
//! In: the path as the server has it, the lens. Out: the path it should have, a SET for it, and the path as the client
//! set it, for SHOW. Never: protection; whoever moves the path reaches tables on which the role has no right.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::pending::{Own, Pending};
use super::{Context, Session};
use crate::policy::lens::PREFIX;
use crate::policy::path::{split, through};
use crate::policy::rules::Lens;
use crate::sql::name::quoted;
use crate::wire::{encode, message};

/// What is known of the path.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// The lens that the path was last made for.
    lens: Option<Arc<Lens>>,
    /// As the server showed it or was told to have it, `$user` as it stands.
    items: Vec<Arc<str>>,
    /// What was put in place of what the client had set, and that as the server showed it; newest last. An end of a
    /// transaction may bring an earlier one back.
    ours: Vec<(Vec<Arc<str>>, String)>,
    /// As the server showed it last.
    shown: String,
}

/// Paths of ours that are known again.
const OURS_MAX: usize = 8;

impl Session {
    /// The server has shown the path.
    pub(super) fn path_shown(&mut self, value: &str) {
        self.search_path = split(value);
        self.path.items.clone_from(&self.search_path);
        value.clone_into(&mut self.path.shown);
    }

    /// Whether the class's lens came, went or changed since the path was made.
    pub(super) fn lens_moved(&self, cx: &Context<'_>) -> bool {
        self.path.lens != self.class(cx.rules).lens
    }

    /// Puts the lens's schemas into the path if they are not there; client input waits. True if the server was asked.
    pub(super) fn set_path(&mut self, role: &str, cx: &mut Context<'_>) -> bool {
        self.path.lens.clone_from(&self.class(cx.rules).lens);
        if self.path.lens.is_none() && self.path.ours.is_empty() {
            return false;
        }
        let wanted = through(&self.path.items, role, self.path.lens.as_deref());
        if wanted == self.path.items {
            return false;
        }
        // In a block it ends with it, as what the client set there may.
        let local = if self.transaction == b'T' { "local " } else { "" };
        let names: Vec<String> = wanted.iter().map(|name| quoted(name)).collect();
        let list = if names.is_empty() { "''".to_owned() } else { names.join(", ") };
        let set = format!("pgveil_\0set {local}search_path to {list}\0\0\0");
        self.in_block.settings |= self.transaction == b'T';
        self.search_path.clone_from(&wanted);
        self.path.items.clone_from(&wanted);
        let by_client = self.told_path(&self.path.shown);
        self.path.ours.retain(|(path, _)| *path != wanted);
        if self.path.ours.len() == OURS_MAX {
            self.path.ours.remove(0);
        }
        self.path.ours.push((wanted, by_client));
        self.pending.push_back(Pending::Own(Own::Path));
        self.probing = true;
        let _ = encode::raw(cx.to_server, b'C', b"Spgveil_\0");
        let _ = encode::raw(cx.to_server, b'P', set.as_bytes());
        let _ = encode::raw(cx.to_server, b'B', b"pgveil_\0pgveil_\0\0\0\0\0\0\0");
        let _ = encode::raw(cx.to_server, b'E', b"pgveil_\0\0\0\0\0");
        let _ = encode::raw(cx.to_server, b'C', b"Ppgveil_\0");
        let _ = encode::raw(cx.to_server, b'C', b"Spgveil_\0");
        encode::sync(cx.to_server);
        true
    }

    /// What a client is told of a path: what it set, or that without the lens's schemas.
    fn told_path(&self, value: &str) -> String {
        let items = split(value);
        if let Some((_, by_client)) = self.path.ours.iter().find(|(path, _)| *path == items) {
            return by_client.clone();
        }
        let own: Vec<&Arc<str>> = items.iter().filter(|item| !item.starts_with(PREFIX)).collect();
        if own.len() == items.len() {
            return value.to_owned();
        }
        let plain = |name: &str| name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
        let shown = own.iter().map(|item| if plain(item) { item.to_string() } else { quoted(item) });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// One row of the client's SHOW search_path.
    pub(super) fn tell_path(&self, body: &[u8], to_client: &mut BytesMut) -> bool {
        if self.path.ours.is_empty() {
            return false;
        }
        let mut r = message::Reader::new(body);
        let value = r.count().ok().filter(|count| *count == 1).and_then(|_| r.value().ok()).flatten();
        let Some(value) = value.and_then(|value| std::str::from_utf8(value).ok()) else { return false };
        let told = self.told_path(value);
        let Ok(length) = u32::try_from(told.len()) else { return false };
        let mut row = BytesMut::with_capacity(told.len() + 6);
        row.put_u16(1);
        row.put_u32(length);
        row.put_slice(told.as_bytes());
        encode::raw(to_client, b'D', &row).is_ok()
    }

    /// ParameterStatus of the path (PostgreSQL 18): the client hears of what it set, and nothing of ours. `None`: nothing
    /// is to be said.
    pub(super) fn report_path(&self, value: &str) -> Option<String> {
        match self.pending.front() {
            Some(Pending::Own(Own::Path)) => None,
            _ => Some(self.told_path(value)),
        }
    }
}
