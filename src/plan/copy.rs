//! COPY: which field of a row belongs to which column.

use std::ops::Range;
use std::sync::Arc;

use super::decide::{Text, fields, unread_step};
use super::reader::{Col, Reader};
use super::refuse;
use super::value::Value;
use super::{CopyPlan, Field, How, Step, StepKind, SubjectPlan, Touched};
use crate::error::{Code, Refusal};
use crate::event::Access;
use crate::policy::rules::SealedColumn;
use crate::sql::copy_stmt::{self, Columns, Copy, CopyFormat, Direction, Header, Options, Source, Target};
use crate::sql::name::{ident, is_ident};
use crate::sql::resolve::Found;

/// The fields of a row.
struct Layout {
    names: Vec<Arc<str>>,
    columns: Vec<Option<Arc<SealedColumn>>>,
    subject: Option<SubjectPlan>,
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
        let layout = match &copy.source {
            Source::Query(tree) => self.copied_query(tree.clone(), &mut step, touches),
            Source::Relation { name, columns, .. } => self.copied_relation(&copy, name, columns.as_deref(), touches),
        };
        let protected = std::mem::replace(&mut self.protected, before);
        self.protected |= protected;
        let out = copy.direction == Direction::To;
        step.access = if out { Access::Export } else { Access::Write };
        step.writes |= !out;
        step.touches = touches.as_slice().into();
        let Some(layout) = layout?.filter(|_| protected) else { return Ok(step) };
        step.subject = layout.subject.clone();
        if let Some(plan) = copy_plan(&copy.options, layout)? {
            step.kind = if out { StepKind::CopyOut(plan) } else { StepKind::CopyIn(plan) };
        }
        Ok(step)
    }

    /// COPY (query) TO.
    fn copied_query(
        &mut self,
        tree: Range<usize>,
        step: &mut Step,
        touches: &mut Vec<Touched>,
    ) -> Result<Option<Layout>, Refusal> {
        let (output, (writes, subject)) = self.read_tree(tree, touches)?;
        step.writes |= writes;
        let names = output.columns.iter().map(|column| column.name.clone()).collect();
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
        Ok(Some(Layout { names, columns, subject }))
    }

    /// COPY relation.
    fn copied_relation(
        &mut self,
        copy: &Copy,
        name: &[String],
        listed: Option<&[String]>,
        touches: &mut Vec<Touched>,
    ) -> Result<Option<Layout>, Refusal> {
        let (sql, tokens) = (self.request.sql, self.tokens);
        self.reading(touches, |reader| {
            let Found::Relation(relation) = reader.find_parts(name)? else { return Ok(None) };
            let all = reader.columns(relation);
            let columns = match listed {
                None => all.clone(),
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
            reader.layout(columns).map(Some)
        })
    }
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

    fn layout(&self, columns: Vec<Col>) -> Result<Layout, Refusal> {
        let output = super::reader::Output { columns, open: false };
        let subject = self.subject_plan(&output);
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
        Ok(Layout { names, columns, subject })
    }
}

fn not_possible(column: &SealedColumn, what: &str) -> Refusal {
    Refusal::new(
        Code::SealedUse,
        format!("COPY of sealed column {} is not possible with {what}", refuse::name(column)),
        "Use the text or CSV format in UTF8, without this option.",
    )
}

/// The layout for the splitter; `None` for a binary COPY without sealed columns, which needs no splitting.
fn copy_plan(options: &Options, layout: Layout) -> Result<Option<CopyPlan>, Refusal> {
    let any = layout.columns.iter().flatten().next();
    let force_quote = chosen(&options.force_quote, &layout.names);
    if let Some(column) = any {
        if options.format == CopyFormat::Binary {
            return Err(not_possible(column, "FORMAT binary"));
        }
        if let Some(encoding) = &options.encoding
            && !matches!(encoding.to_ascii_lowercase().replace(['-', '_'], "").as_str(), "utf8" | "unicode")
        {
            return Err(not_possible(column, "another ENCODING than UTF8"));
        }
        if options.default.is_some() {
            return Err(not_possible(column, "DEFAULT"));
        }
        if let Some(other) = options.other.first() {
            return Err(not_possible(column, &format!("the option {}", other.to_ascii_uppercase())));
        }
        let forced = [(&options.force_null, "FORCE_NULL"), (&options.force_not_null, "FORCE_NOT_NULL")];
        for (columns, what) in forced {
            let forced = chosen(columns, &layout.names);
            let sealed =
                layout.columns.iter().zip(forced).find_map(|(column, forced)| column.as_ref().filter(|_| forced));
            if let Some(column) = sealed {
                return Err(not_possible(column, what));
            }
        }
    }
    if options.format == CopyFormat::Binary {
        return Ok(None);
    }
    let byte = |text: &str| match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(refuse::unreadable("an option of COPY")),
    };
    Ok(Some(CopyPlan {
        csv: options.format == CopyFormat::Csv,
        delimiter: byte(&options.delimiter)?,
        null: options.null.as_str().into(),
        quote: byte(&options.quote)?,
        escape: byte(&options.escape)?,
        header: options.header != Header::Off,
        force_quote,
        columns: layout.columns,
    }))
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
