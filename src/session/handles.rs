//! The server's prepared statements and portals, as they will be once it has answered what was forwarded.
//!
//! In: names as messages use them, and answers. Out: what a name stands for. Never: a guess; a change is made when its
//! message is forwarded and taken back when the server refuses or skips that, and a name that an earlier pipeline may
//! still take back is not used before that has been answered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::plan::Plan;
use crate::wire::startup::NAME_MAX;

use super::Session;
use super::pending::{Pending, Portal, Prepared};

/// What a name stands for, since which pipeline.
#[derive(Debug)]
pub(super) struct Entry<T> {
    it: Arc<T>,
    pipeline: u64,
}

/// A client that makes its own names collide slows down nobody else.
pub(super) type Names<T> = HashMap<Box<[u8]>, Entry<T>, foldhash::fast::RandomState>;

/// What the server knows a statement or portal by: it cuts their names, at any byte (`string_hash` and `strlcpy` of
/// dynahash.c, with `keysize = NAMEDATALEN`), so that longer ones may stand for the same thing.
fn known_as(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_MAX)]
}

/// A map entry before a message changed it.
#[derive(Debug)]
pub(super) enum Undo {
    Statement(Box<[u8]>, Option<Entry<Prepared>>),
    Portal(Box<[u8]>, Option<Entry<Portal>>),
}

/// An answer to "what does this name stand for".
pub(super) enum Known<T> {
    Is(Arc<T>),
    /// Nothing that we saw being made.
    Nothing,
    /// The server's answers to an earlier pipeline will tell, and need nothing further from the client.
    Later,
}

/// Pipelines are what Syncs end: in each, all that follows an error is skipped.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    /// Number of the one that messages are in now.
    now: u64,
    /// Those below have been answered.
    answered: u64,
    /// Portals of those below are gone with their transaction.
    portals_from: u64,
}

impl Pipelines {
    /// A Sync was forwarded.
    pub(super) fn sync(&mut self) {
        self.now += 1;
    }

    /// So many Syncs were answered, or ignored by the server.
    pub(super) fn answered(&mut self, syncs: usize) {
        self.answered += syncs as u64;
    }

    /// No transaction is open: portals do not outlast it.
    pub(super) fn no_transaction(&mut self) {
        self.portals_from = self.answered;
    }

    fn open(&self, pipeline: u64) -> bool {
        (self.answered..self.now).contains(&pipeline)
    }
}

/// Entries as they were, by name.
#[derive(Default)]
struct Before {
    statements: HashMap<Box<[u8]>, Option<Entry<Prepared>>>,
    portals: HashMap<Box<[u8]>, Option<Entry<Portal>>>,
}

fn put<T>(names: &mut Names<T>, name: Box<[u8]>, entry: Option<Entry<T>>) -> Option<Entry<T>> {
    match entry {
        Some(entry) => names.insert(name, entry),
        None => names.remove(&name),
    }
}

impl Session {
    /// The prepared statement of that name.
    pub(super) fn statement(&self, name: &[u8]) -> Known<Prepared> {
        let name = known_as(name);
        match self.statements.get(name) {
            Some(entry) if self.pipelines.open(entry.pipeline) => Known::Later,
            Some(entry) => Known::Is(entry.it.clone()),
            None if self.dropped_in_earlier_pipeline(name) => Known::Later,
            None => Known::Nothing,
        }
    }

    /// The portal of that name. One that was dropped by a skipped message is of no use: its transaction has failed.
    pub(super) fn portal(&self, name: &[u8]) -> Known<Portal> {
        match self.portals.get(known_as(name)) {
            Some(entry) if self.pipelines.open(entry.pipeline) => Known::Later,
            Some(entry) if entry.pipeline >= self.pipelines.portals_from => Known::Is(entry.it.clone()),
            _ => Known::Nothing,
        }
    }

    /// What was decided of that statement, as far as it was forwarded.
    pub(super) fn prepared_plan(&self, name: &[u8]) -> Option<&Plan> {
        self.statements.get(name).map(|entry| &*entry.it.plan)
    }

    fn dropped_in_earlier_pipeline(&self, name: &[u8]) -> bool {
        let mut earlier = false;
        for pending in self.pending.iter().rev() {
            earlier |= matches!(pending, Pending::Sync);
            let drops = |undo: &Undo| matches!(undo, Undo::Statement(of, Some(_)) if **of == *name);
            if pending.undos().iter().any(drops) {
                return earlier;
            }
        }
        false
    }

    /// The name stands for that from here on, or for nothing. What takes it back.
    pub(super) fn statement_changed(&mut self, name: &[u8], statement: Option<Arc<Prepared>>) -> Undo {
        let name = known_as(name);
        let entry = statement.map(|it| Entry { it, pipeline: self.pipelines.now });
        let before = put(&mut self.statements, name.into(), entry);
        Undo::Statement(name.into(), before)
    }

    /// See [`Session::statement_changed`].
    pub(super) fn portal_changed(&mut self, name: &[u8], portal: Option<Arc<Portal>>) -> Undo {
        if self.portals.len() >= self.settings.portals {
            let from = self.pipelines.portals_from;
            self.portals.retain(|_, entry| entry.pipeline >= from);
        }
        let name = known_as(name);
        let entry = portal.map(|it| Entry { it, pipeline: self.pipelines.now });
        let before = put(&mut self.portals, name.into(), entry);
        Undo::Portal(name.into(), before)
    }

    /// There is no room for another statement of that name. What has no name takes none.
    pub(super) fn statements_full(&self, name: &[u8]) -> bool {
        let full = self.statements.len() >= self.settings.prepared_statements;
        full && !name.is_empty() && !self.statements.contains_key(known_as(name))
    }

    /// See [`Session::statements_full`].
    pub(super) fn portals_full(&self, name: &[u8]) -> bool {
        let full = self.portals.len() >= self.settings.portals;
        full && !name.is_empty() && !self.portals.contains_key(known_as(name))
    }

    /// A simple Query drops the unnamed statement and portal.
    pub(super) fn unnamed_dropped(&mut self) -> Vec<Undo> {
        let any = self.statements.contains_key(&b""[..]) || self.portals.contains_key(&b""[..]);
        if any { vec![self.statement_changed(b"", None), self.portal_changed(b"", None)] } else { Vec::new() }
    }

    /// The server has refused the first of these and skipped the others.
    pub(super) fn take_back(&mut self, undone: Vec<Pending>) {
        let mut before = Before::default();
        for (at, mut pending) in undone.into_iter().enumerate().rev() {
            for undo in pending.take_undos().into_iter().rev() {
                match undo {
                    // exec_parse_message drops the unnamed statement before it looks at the text.
                    Undo::Statement(name, _) if at == 0 && name.is_empty() => {
                        before.statements.insert(name, None).map(drop)
                    }
                    Undo::Statement(name, entry) => before.statements.insert(name, entry).map(drop),
                    Undo::Portal(name, entry) => before.portals.insert(name, entry).map(drop),
                };
            }
        }
        self.restore(before);
    }

    /// SQL has made or dropped that statement.
    pub(super) fn statement_by_sql(&mut self, name: &str, statement: Option<Arc<Prepared>>) {
        let entry = statement.map(|it| Entry { it, pipeline: self.pipelines.now });
        let mut before = Before::default();
        before.statements.insert(name.as_bytes().into(), entry);
        self.restore(before);
    }

    /// Puts entries under what later messages have changed.
    fn restore(&mut self, mut before: Before) {
        for undo in self.pending.iter_mut().flat_map(Pending::undos_mut) {
            if before.statements.is_empty() && before.portals.is_empty() {
                return;
            }
            match undo {
                Undo::Statement(name, slot) => {
                    if let Some(entry) = before.statements.remove(name) {
                        *slot = entry;
                    }
                }
                Undo::Portal(name, slot) => {
                    if let Some(entry) = before.portals.remove(name) {
                        *slot = entry;
                    }
                }
            }
        }
        for (name, entry) in before.statements {
            put(&mut self.statements, name, entry);
        }
        for (name, entry) in before.portals {
            put(&mut self.portals, name, entry);
        }
    }

    /// DEALLOCATE ALL and DISCARD ALL leave the unnamed statement, and what later messages make.
    pub(super) fn statements_dropped(&mut self) {
        let mut later = HashSet::new();
        for undo in self.pending.iter_mut().flat_map(Pending::undos_mut) {
            if let Undo::Statement(name, before) = undo
                && !name.is_empty()
                && later.insert(name.clone())
            {
                *before = None;
            }
        }
        self.statements.retain(|name, _| name.is_empty() || later.contains(name));
    }
}
