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
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::{ident, is_ident, quoted};
use crate::sql::resolve::Found;
use crate::sql::schema::Relation;

/// `current_schema` of a session in whose path a lens stands: the first schema that is none.
const CURRENT_SCHEMA: &str = "(select s.\"current_schema\" from pg_catalog.unnest(pg_catalog.current_schemas(false)) \
     with ordinality as s(\"current_schema\", n) where not pg_catalog.starts_with(s.\"current_schema\"::pg_catalog.text, 'pgveil_lens_') \
     order by s.n limit 1)";

/// The way out where COPY would write through a view.
pub(super) const COPY_HINT: &str = "Use INSERT, which may take many rows at once.";

/// Whether a class with a lens asks for the current schema.
pub(super) fn asks_schema(request: &Request<'_>, tokens: &[Token]) -> bool {
    let class = request.rules.class(request.class);
    class.lens.is_some() && tokens.iter().any(|token| token.is_word(request.sql, "current_schema"))
}

/// One `insert into` of a table that has a view for it.
struct Insert {
    /// Where its name stands.
    place: Range<usize>,
    table: u32,
    /// The schema of that view.
    schema: Arc<str>,
    /// Its ON CONFLICT updates.
    updates: bool,
    /// Where RETURNING speaks of the row, if no query stands in it.
    returning: Range<usize>,
}

impl Insert {
    fn new(sql: &str, own: &[Token], place: Range<usize>, table: u32, schema: Arc<str>) -> Self {
        // The tokens of this INSERT that stand in no parentheses.
        let (mut level, mut depth, mut end) = (Vec::new(), 0_usize, own.len());
        for (at, token) in own.iter().enumerate().skip(place.end) {
            match token.kind {
                TokenKind::Punct(b'(') => depth += 1,
                TokenKind::Punct(b')') if depth == 0 => {
                    end = at;
                    break;
                }
                TokenKind::Punct(b')') => depth -= 1,
                _ if depth == 0 => level.push(at),
                _ => {}
            }
        }
        let is = |at: usize, word: &str| own[at].is_word(sql, word);
        let updates = level.windows(3).any(|three| ["do", "update", "set"].iter().zip(three).all(|(w, at)| is(*at, w)));
        let from = level.iter().copied().find(|at| is(*at, "returning")).unwrap_or(end);
        let queries = (from..end).any(|at| is(at, "select"));
        Self { place, table, schema, updates, returning: if queries { end..end } else { from..end } }
    }

    /// A column named there is one of the inserted row.
    fn returns(&self, at: usize) -> bool {
        self.returning.contains(&at)
    }
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

    /// What `insert into` names becomes the view through which rows are inserted.
    ///
    /// # Errors
    /// ON CONFLICT DO UPDATE of a table of which some rows are hidden: PostgreSQL would say that a right is missing.
    fn name_inserts(&mut self, lens: &Lens, own: &[Token]) -> Result<Vec<Insert>, Refusal> {
        let sql = self.request.sql;
        let mut inserts = Vec::new();
        for at in 2..own.len() {
            if !own[at - 2].is_word(sql, "insert") || !own[at - 1].is_word(sql, "into") {
                continue;
            }
            let mut end = at + 1;
            let mut name = vec![ident(sql, &own[at]).into_owned()];
            while let (Some(dot), Some(part)) = (own.get(end), own.get(end + 1))
                && dot.is_punct(b'.')
                && is_ident(part)
            {
                name.push(ident(sql, part).into_owned());
                end += 2;
            }
            let Found::Relation(relation) = self.names().find(&name) else { continue };
            let table = lens.table_of(relation.oid).unwrap_or(relation.oid);
            let Some((schema, _)) = lens.inserts.get(&table) else { continue };
            let whole = Span { start: own[at].span.start, end: own[end - 1].span.end };
            let text = format!("{}.{}", quoted(schema), quoted(&relation.name));
            self.replace(whole, text.into());
            let insert = Insert::new(sql, own, at..end, table, schema.clone());
            if insert.updates {
                return Err(Refusal::new(
                    Code::AboveClearance,
                    "ON CONFLICT DO UPDATE could reach a row that is hidden from this role",
                    "Use UPDATE, and where it finds no row INSERT … ON CONFLICT DO NOTHING.",
                ));
            }
            inserts.push(insert);
        }
        Ok(inserts)
    }

    /// `schema.table` becomes the view's, wherever the two words stand: in FROM, before a column, in a definition.
    ///
    /// # Errors
    /// As [`Text::name_inserts`].
    pub(super) fn name_views(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        let Some(lens) = self.request.rules.class(self.request.class).lens.clone() else { return Ok(()) };
        let sql = self.request.sql;
        let own = &self.tokens[range];
        self.name_schema(own);
        let inserts = self.name_inserts(&lens, own)?;
        let database = self.request.rules.schema.database.as_str();
        for (at, three) in own.windows(3).enumerate() {
            // `database.schema.table` is the same table.
            let whole = match at {
                0 => true,
                1 => !own[0].is_punct(b'.'),
                _ if !own[at - 1].is_punct(b'.') => true,
                _ => *ident(sql, &own[at - 2]) == *database && (at < 3 || !own[at - 3].is_punct(b'.')),
            };
            if inserts.iter().any(|insert| insert.place.contains(&at)) {
                continue;
            }
            if !whole || !is_ident(&three[0]) || !three[1].is_punct(b'.') || !is_ident(&three[2]) {
                continue;
            }
            let Some(view_schema) = lens.schemas.get(&*ident(sql, &three[0])) else { continue };
            let table = self.request.rules.schema.named(&ident(sql, &three[0]), &ident(sql, &three[2]));
            let Some(table) = table.filter(|table| lens.views.contains_key(&table.oid)) else { continue };
            let returned = inserts.iter().find(|insert| insert.returns(at) && insert.table == table.oid);
            self.replace(three[0].span, quoted(returned.map_or(view_schema, |insert| &insert.schema)).into());
        }
        Ok(())
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
                COPY_HINT,
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
        self.rules.schema.relation(lens.table_of(relation)?)
    }
}

/// The relation itself if it is one of the lens's views, or the view that stands for it.
fn view_of<'s>(lens: &Lens, relation: &Relation, schema: &'s crate::sql::schema::Schema) -> Option<&'s Arc<Relation>> {
    let view = match lens.table_of(relation.oid) {
        Some(_) => relation.oid,
        None => *lens.views.get(&relation.oid)?,
    };
    schema.relation(view)
}
