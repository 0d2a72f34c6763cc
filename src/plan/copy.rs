//! COPY: how its rows look, and which field of a row belongs to which column.

use std::ops::Range;
use std::sync::Arc;

use super::decide::{Text, fields, unread_step};
use super::reader::{Col, Reader};
use super::refuse;
use super::value::Value;
use super::{CopyPlan, Field, How, Step, StepKind, SubjectFrom, SubjectPlan, Touched};
use crate::error::{Code, Refusal};
use crate::event::Access;
use crate::policy::rules::SealedColumn;
use crate::sql::copy_stmt::{self, Columns, Copy, CopyFormat, Direction, Header, Options, Source, Target};
use crate::sql::lexer::Token;
use crate::sql::name::{ident, is_ident};
use crate::sql::resolve::Found;
use crate::sql::schema::{Relation, Schema};
use crate::wire::copy::{Layout, RowFormat};

/// The first server whose CSV knows no end marker.
const WITHOUT_CSV_MARKER: u32 = 180_000;

/// The fields of a row.
struct Fields {
    names: Vec<Arc<str>>,
    columns: Vec<Option<Arc<SealedColumn>>>,
    subject: Option<SubjectPlan>,
    subject_type: u32,
}

impl Text<'_> {
    /// COPY of a protected table, or of a query.
    pub(super) fn copy(
        &mut self,
        range: Range<usize>,
        named: bool,
        touches: &mut Vec<Touched>,
    ) -> Result<Step, Refusal> {
        let sql = self.request.sql;
        let mut step = unread_step(self.request, self.tokens, range.clone());
        let copy = copy_stmt::copy(sql, self.tokens, range).ok_or_else(|| refuse::unreadable("COPY"))?;
        if copy.target != Target::Client {
            return Err(match named {
                true => refuse::unreadable("COPY with a file or program of the server"),
                false => refuse::function("COPY with a file or program of the server"),
            });
        }
        let before = self.protected;
        self.protected = false;
        let copied = match &copy.source {
            Source::Query(tree) => self.copied_query(tree.clone(), &mut step, touches),
            Source::Relation { name, columns, .. } => {
                let columns = columns.as_deref();
                self.copied_relation(&copy, name, columns, touches).and_then(|found| self.copied_view(&copy, found))
            }
        };
        let protected = std::mem::replace(&mut self.protected, before);
        self.protected |= protected;
        step.counted |= protected;
        let out = copy.direction == Direction::To;
        step.access = if out { Access::Export } else { Access::Write };
        step.writes |= !out;
        step.touches = touches.as_slice().into();
        let Some(copied) = copied?.filter(|_| protected) else { return Ok(step) };
        if let Some(column) = copied.columns.iter().flatten().next() {
            possible(&copy.options, column)?;
        }
        step.subject = copied.subject.clone();
        let csv_marker = self.request.rules.schema.server_version < WITHOUT_CSV_MARKER;
        let layout = layout(&copy.options, &copied.names, !out, csv_marker);
        let plan = CopyPlan { layout: Arc::new(layout), columns: copied.columns, subject_type: copied.subject_type };
        step.kind = if out { StepKind::CopyOut(plan) } else { StepKind::CopyIn(Some(plan)) };
        Ok(step)
    }

    /// COPY (query) TO.
    fn copied_query(
        &mut self,
        tree: Range<usize>,
        step: &mut Step,
        touches: &mut Vec<Touched>,
    ) -> Result<Option<Fields>, Refusal> {
        let (output, (writes, subject)) = self.read_tree(tree, touches)?;
        step.writes |= writes;
        let names = output.columns.iter().map(|column| column.name.clone()).collect();
        let subject_type = subject_type(subject.as_ref(), &output.columns, &self.request.rules.schema);
        let Some(fields) = fields(&output) else {
            return if self.protected { Err(refuse::unreadable("the columns of the copied query")) } else { Ok(None) };
        };
        let columns = fields
            .into_iter()
            .map(|field| match field {
                Field::Plain => Ok(None),
                Field::Sealed(column) => Ok(Some(column)),
                Field::SealedArray(column) => Err(refuse::sealed_use(&column, "COPY of an array")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Some(Fields { names, columns, subject, subject_type }))
    }

    /// Names the columns of a view that is copied in place of its table.
    fn copied_view(&mut self, copy: &Copy, found: Option<Fields>) -> Result<Option<Fields>, Refusal> {
        if let Some(fields) = &found {
            self.copy_view(copy, &fields.names)?;
        }
        Ok(found)
    }

    /// COPY relation.
    fn copied_relation(
        &mut self,
        copy: &Copy,
        name: &[String],
        listed: Option<&[String]>,
        touches: &mut Vec<Touched>,
    ) -> Result<Option<Fields>, Refusal> {
        let (sql, tokens) = (self.request.sql, self.tokens);
        self.reading(touches, |reader| {
            let Found::Relation(relation) = reader.find_parts(name)? else { return Ok(None) };
            let all = reader.columns(relation);
            let table = reader.behind_view(relation.oid).unwrap_or(relation);
            let columns = match listed {
                // PostgreSQL, `CopyGetAttnums`.
                None => all.iter().filter(|column| !generated(table, column)).cloned().collect(),
                Some(names) => names
                    .iter()
                    .map(|name| all.iter().find(|column| *column.name == **name).cloned())
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| refuse::no_column(&relation.qualified()))?,
            };
            if let Some(filter) = &copy.filter {
                let own = tokens.get(filter.clone()).unwrap_or_default();
                let named =
                    |column: &&Col| own.iter().any(|token| is_ident(token) && *ident(sql, token) == *column.name);
                for column in all.iter().filter(named) {
                    let value = reader.used(column)?;
                    reader.plain(&value, "WHERE of COPY")?;
                }
            }
            match copy.direction {
                Direction::To => reader.used_all(&columns).map(drop)?,
                Direction::From => columns.iter().try_for_each(|column| reader.filled(column))?,
            }
            reader.copied(columns).map(Some)
        })
    }
}

/// It is COPY … TO; so is one that cannot be read.
pub(super) fn copies_out(sql: &str, tokens: &[Token], range: Range<usize>) -> bool {
    copy_stmt::copy(sql, tokens, range).is_none_or(|copy| copy.direction == Direction::To)
}

/// It is COPY with a file or program of the server.
pub(super) fn reaches_server(sql: &str, tokens: &[Token], range: Range<usize>) -> bool {
    copy_stmt::copy(sql, tokens, range).is_none_or(|copy| copy.target != Target::Client)
}

/// The server computes it, so that COPY neither reads nor writes it unless it is named.
fn generated(relation: &Relation, column: &Col) -> bool {
    relation.column(&column.name).is_some_and(|column| column.generated)
}

/// The client's data follows this COPY; one that cannot be read may be such.
pub(super) fn reads_client(sql: &str, tokens: &[Token], range: Range<usize>) -> bool {
    let copy = copy_stmt::copy(sql, tokens, range);
    copy.is_none_or(|copy| copy.direction == Direction::From && copy.target == Target::Client)
}

impl Reader<'_> {
    /// A column that COPY FROM fills.
    fn filled(&mut self, column: &Col) -> Result<(), Refusal> {
        match &column.value {
            Value::Hidden(name) => return Err(refuse::hidden(&[name.to_string()])),
            Value::Untyped(name) => return Err(refuse::untyped(name, "COPY FROM")),
            Value::Sealed(sealed) if !self.class.may_write.contains(&sealed.id) => {
                return Err(refuse::may_not_write(sealed));
            }
            _ => {}
        }
        self.touch(column.base, How::Written);
        Ok(())
    }

    fn copied(&self, columns: Vec<Col>) -> Result<Fields, Refusal> {
        let output = super::reader::Output { columns, open: false };
        let subject = self.subject_plan(&output);
        let subject_type = subject_type(subject.as_ref(), &output.columns, &self.rules.schema);
        let names = output.columns.iter().map(|column| column.name.clone()).collect();
        let columns = output
            .columns
            .into_iter()
            .map(|column| match column.value {
                Value::Sealed(column) => Ok(Some(column)),
                Value::SealedArray(column) => Err(refuse::sealed_use(&column, "COPY of an array")),
                _ => Ok(None),
            })
            .collect::<Result<_, _>>()?;
        Ok(Fields { names, columns, subject, subject_type })
    }
}

/// Type of the field that names the subject, which a binary row does not tell.
fn subject_type(subject: Option<&SubjectPlan>, columns: &[Col], schema: &Schema) -> u32 {
    let field = subject.and_then(|subject| match subject.from {
        SubjectFrom::Field(index) => columns.get(usize::from(index)),
        _ => None,
    });
    let base = field.and_then(|column| column.base);
    let found = base.and_then(|(oid, attnum)| schema.relation(oid)?.column_at(attnum));
    found.map_or(0, |column| column.type_oid)
}

fn not_possible(column: &SealedColumn, what: &str) -> Refusal {
    Refusal::new(
        Code::SealedUse,
        format!("COPY of sealed column {} is not possible with {what}", refuse::name(column)),
        "Leave this option out; the encoding is UTF8.",
    )
}

/// No option asks for what only the server could do with the values.
fn possible(options: &Options, column: &SealedColumn) -> Result<(), Refusal> {
    if let Some(encoding) = &options.encoding {
        // pg_char_to_encoding: only letters and digits count.
        let letters = encoding.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        if !matches!(letters.to_ascii_lowercase().as_str(), "utf8" | "unicode") {
            return Err(not_possible(column, "another ENCODING than UTF8"));
        }
    }
    match options.other.first() {
        Some(other) => Err(not_possible(column, &format!("the option {}", other.to_ascii_uppercase()))),
        None => Ok(()),
    }
}

/// For the splitter. The server refuses a delimiter, quote or escape that is not one byte before any row comes.
fn layout(options: &Options, names: &[Arc<str>], inbound: bool, csv_marker: bool) -> Layout {
    let byte = |text: &str| text.bytes().next().unwrap_or_default();
    let format = match options.format {
        CopyFormat::Text => RowFormat::Text,
        CopyFormat::Csv => RowFormat::Csv,
        CopyFormat::Binary => RowFormat::Binary,
    };
    Layout {
        format,
        delimiter: byte(&options.delimiter),
        null: options.null.as_str().into(),
        default: options.default.as_deref().map(Arc::from),
        quote: byte(&options.quote),
        escape: byte(&options.escape),
        header: options.header != Header::Off,
        force_quote: chosen(&options.force_quote, names),
        force_not_null: chosen(&options.force_not_null, names),
        force_null: chosen(&options.force_null, names),
        end_marker: inbound && (format == RowFormat::Text || csv_marker),
    }
}

/// Which columns an option names.
fn chosen(columns: &Columns, names: &[Arc<str>]) -> Vec<bool> {
    names
        .iter()
        .map(|name| match columns {
            Columns::None => false,
            Columns::All => true,
            Columns::List(list) => list.iter().any(|listed| **listed == **name),
        })
        .collect()
}
