//! A class with a lens: its views stand for the tables.
//!
//! In: the class's lens, names as written. Out: the view that a table's name means, and edits that name it. Never:
//! protection; a name that is missed here reaches a table on which the role has no right.

use std::ops::Range;
use std::sync::Arc;

use super::Request;
use super::decide::Text;
use super::reader::Reader;
use crate::error::{Code, Refusal};
use crate::policy::rules::Lens;
use crate::sql::Span;
use crate::sql::copy_stmt::{Copy, Direction, Source};
use crate::sql::lexer::Token;
use crate::sql::name::{ident, is_ident, quoted};
use crate::sql::resolve::Found;
use crate::sql::schema::Relation;

/// `current_schema` of a session in whose path a lens stands: the first schema that is none.
const CURRENT_SCHEMA: &str = "(select s.\"current_schema\" from pg_catalog.unnest(pg_catalog.current_schemas(false)) \
     with ordinality as s(\"current_schema\", n) where not pg_catalog.starts_with(s.\"current_schema\"::pg_catalog.text, 'pgveil_lens_') \
     order by s.n limit 1)";

/// Whether a class with a lens asks for the current schema.
pub(super) fn asks_schema(request: &Request<'_>, tokens: &[Token]) -> bool {
    let class = request.rules.class(request.class);
    class.lens.is_some() && tokens.iter().any(|token| token.is_word(request.sql, "current_schema"))
}

impl Text<'_> {
    /// `[pg_catalog.]current_schema[()]` in place of a value becomes a query for what the client would see without a lens.
    fn name_schema(&mut self, own: &[Token]) {
        let sql = self.request.sql;
        for (at, token) in own.iter().enumerate().filter(|(_, token)| token.is_word(sql, "current_schema")) {
            let before = |back: usize| at.checked_sub(back).and_then(|at| own.get(at));
            let dotted = before(1).is_some_and(|token| token.is_punct(b'.'));
            let system = before(2).filter(|token| dotted && *ident(sql, token) == *"pg_catalog");
            let labels = before(1).is_some_and(|token| token.is_word(sql, "as"));
            if labels || (dotted && system.is_none()) {
                continue;
            }
            let called = own.get(at + 1).is_some_and(|token| token.is_punct(b'('));
            let end = match own.get(at + 2).filter(|token| called && token.is_punct(b')')) {
                Some(close) => close.span.end,
                None if called => continue,
                None => token.span.end,
            };
            let start = system.unwrap_or(token).span.start;
            self.replace(Span { start, end }, CURRENT_SCHEMA.into());
        }
    }

    /// `schema.table` becomes the view's, wherever the two words stand: in FROM, before a column, in a definition.
    pub(super) fn name_views(&mut self, range: Range<usize>) {
        let Some(lens) = self.request.rules.class(self.request.class).lens.clone() else { return };
        let sql = self.request.sql;
        let own = &self.tokens[range];
        self.name_schema(own);
        let database = self.request.rules.schema.database.as_str();
        for (at, three) in own.windows(3).enumerate() {
            // `database.schema.table` is the same table.
            let whole = match at {
                0 => true,
                1 => !own[0].is_punct(b'.'),
                _ if !own[at - 1].is_punct(b'.') => true,
                _ => *ident(sql, &own[at - 2]) == *database && (at < 3 || !own[at - 3].is_punct(b'.')),
            };
            if !whole || !is_ident(&three[0]) || !three[1].is_punct(b'.') || !is_ident(&three[2]) {
                continue;
            }
            let Some(view_schema) = lens.schemas.get(&*ident(sql, &three[0])) else { continue };
            let table = self.request.rules.schema.named(&ident(sql, &three[0]), &ident(sql, &three[2]));
            if table.is_some_and(|table| lens.views.contains_key(&table.oid)) {
                self.replace(three[0].span, quoted(view_schema).into());
            }
        }
    }

    /// COPY takes tables only: out of a view it is a query's, into one it is impossible.
    pub(super) fn copy_view(&mut self, copy: &Copy, columns: &[Arc<str>]) -> Result<(), Refusal> {
        let Source::Relation { name, extent, .. } = &copy.source else { return Ok(()) };
        let names = self.names();
        let Found::Relation(found) = names.find(name) else { return Ok(()) };
        let rules = self.request.rules;
        let lens = rules.class(self.request.class).lens.clone();
        let Some(view) = lens.as_deref().and_then(|lens| view_of(lens, found, &rules.schema)) else { return Ok(()) };
        if copy.direction == Direction::From {
            return Err(Refusal::new(
                Code::AboveClearance,
                format!("COPY into {} is not possible for a role that may not see all of it", name.join(".")),
                "Use INSERT, which may take many rows at once.",
            ));
        }
        let list: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        let query = format!("(select {} from {}.{})", list.join(", "), quoted(&view.schema), quoted(&view.name));
        let (Some(first), Some(last)) = (self.tokens.get(extent.start), self.tokens.get(extent.end - 1)) else {
            return Ok(());
        };
        self.replace(Span { start: first.span.start, end: last.span.end }, query.into());
        Ok(())
    }
}

impl<'a> Reader<'a> {
    /// What a name means to the class.
    pub(super) fn through_lens(&self, found: Found<'a>) -> Found<'a> {
        let (Found::Relation(relation), Some(lens)) = (&found, &self.class.lens) else { return found };
        view_of(lens, relation, &self.rules.schema).map_or(found, Found::Relation)
    }

    /// The table that a view of the class's lens stands for.
    pub(super) fn behind_view(&self, relation: u32) -> Option<&'a Arc<Relation>> {
        let lens = self.class.lens.as_deref()?;
        let (table, _) = lens.views.iter().find(|(_, view)| **view == relation)?;
        self.rules.schema.relation(*table)
    }
}

/// The relation itself if it is one of the lens's views, or the view that stands for it.
fn view_of<'s>(lens: &Lens, relation: &Relation, schema: &'s crate::sql::schema::Schema) -> Option<&'s Arc<Relation>> {
    let own = lens.views.values().find(|view| **view == relation.oid);
    let view = own.or_else(|| lens.views.get(&relation.oid))?;
    schema.relation(*view)
}
