//! Fills a [`Schema`] from the control connection.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::connect::control;
use super::origins::origins;
use super::queries::{ANSWERS, Answer, BATCH, BEGIN, COMMIT, FINGERPRINT, SEALED_TYPES, SYSTEM_IDENTIFIER};
use super::reach;
use crate::error::{Error, Result};
use crate::sql::schema::{Behind, Column, Function, RelKind, Relation, Role, Rule, Schema, When};
use crate::wire::types::{Kind, SqlType};

/// Reads the whole catalog in one snapshot.
///
/// # Errors
/// [`Error::Control`]: the connection failed, or the catalog holds something this version does not understand.
pub async fn load(client: &Client) -> Result<Schema> {
    let system_identifier = system_identifier(client).await?;
    ask(client, BEGIN).await?;
    let read = read(client).await;
    ask(client, COMMIT).await?;
    let mut schema = read?;
    schema.system_identifier = system_identifier;
    Ok(schema)
}

/// The cluster's system identifier; 0 where it may not be read. Must not run inside a transaction, which a denial
/// would end.
///
/// # Errors
/// [`Error::Control`]: the connection failed.
pub async fn system_identifier(client: &Client) -> Result<u64> {
    match client.simple_query(SYSTEM_IDENTIFIER).await {
        Ok(answer) => Ok(rows(&answer).next().and_then(|row| row.get(0)?.parse().ok()).unwrap_or(0)),
        Err(error) if error.as_db_error().is_some() => Ok(0),
        Err(error) => Err(control(&error)),
    }
}

/// One text that differs when the catalog does.
///
/// # Errors
/// [`Error::Control`]
pub async fn fingerprint(client: &Client) -> Result<String> {
    let answer = ask(client, FINGERPRINT).await?;
    let row = rows(&answer).next();
    row.and_then(|row| row.get(0).map(str::to_owned)).ok_or_else(|| Error::Control("no fingerprint".into()))
}

async fn ask(client: &Client, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
    client.simple_query(sql).await.map_err(|e| control(&e))
}

fn rows(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

/// Reads the catalog as the caller's transaction sees it; the system identifier is left 0.
///
/// # Errors
/// As [`load`].
pub async fn read(client: &Client) -> Result<Schema> {
    let answer = ask(client, &[BATCH, &reach::query()].concat()).await?;
    let mut reading = Reading::default();
    let mut at = 0;
    for message in &answer {
        match message {
            SimpleQueryMessage::Row(row) => reading.row(ANSWERS.get(at).copied(), row)?,
            SimpleQueryMessage::CommandComplete(_) => at += 1,
            _ => {}
        }
    }
    if at != ANSWERS.len() {
        return Err(Error::Control(format!("the catalog batch gave {at} answers")));
    }
    if reading.has_sealed_types {
        for row in rows(&ask(client, SEALED_TYPES).await?) {
            let name = cell(row, 2)?;
            let ty = SqlType::parse(name).map_err(|reason| {
                Error::Control(format!("pgveil.columns holds a type this version does not know: {reason}"))
            })?;
            reading.schema.sealed_types.insert((number(row, 0)?, number(row, 1)?), ty);
        }
    }
    Ok(reading.finish())
}

fn cell(row: &SimpleQueryRow, at: usize) -> Result<&str> {
    row.try_get(at).ok().flatten().ok_or_else(|| Error::Control(format!("the catalog has no value in field {at}")))
}

fn number<T: FromStr>(row: &SimpleQueryRow, at: usize) -> Result<T> {
    cell(row, at)?.parse().map_err(|_| Error::Control(format!("the catalog's field {at} is not a number")))
}

fn truth(row: &SimpleQueryRow, at: usize) -> Result<bool> {
    Ok(cell(row, at)? == "t")
}

fn behind(row: &SimpleQueryRow) -> Result<Behind> {
    let when = match cell(row, 0)? {
        "r" => When::Read,
        "w" => When::Write,
        "t" => When::Type,
        "o" => When::Operator,
        "a" => When::Any,
        _ => When::Definition,
    };
    Ok(Behind {
        when,
        name: cell(row, 1)?.into(),
        qualified: cell(row, 2)?.into(),
        code: format!("{}.{}", cell(row, 3)?, cell(row, 4)?).into(),
        function: truth(row, 5)?,
        type_oid: number(row, 6)?,
    })
}

#[derive(Default)]
struct Reading {
    schema: Schema,
    has_sealed_types: bool,
    relations: HashMap<u32, Relation>,
    children: HashMap<u32, BTreeSet<u32>>,
    reads: HashMap<u32, BTreeSet<u32>>,
    groups: HashMap<String, BTreeSet<String>>,
    heirs: HashMap<String, BTreeSet<String>>,
    /// View → (its column, (relation, column)).
    origins: HashMap<u32, Vec<(i16, Place)>>,
}

/// (relation oid, attnum)
type Place = (u32, i16);

impl Reading {
    fn row(&mut self, answer: Option<Answer>, row: &SimpleQueryRow) -> Result<()> {
        match answer {
            Some(Answer::Database) => {
                cell(row, 0)?.clone_into(&mut self.schema.database);
                self.schema.server_version = number(row, 1)?;
                self.has_sealed_types = row.get(2).is_some();
            }
            Some(Answer::Relations) => self.relation(row)?,
            Some(Answer::Columns) => self.column(row)?,
            Some(Answer::SealedDomains) => {
                if let Some(kind) = Kind::of_domain(cell(row, 2)?) {
                    self.schema.sealed_domains.insert(number(row, 0)?, kind);
                    self.schema.sealed_arrays.insert(number(row, 1)?, kind);
                }
            }
            Some(Answer::Inheritance) => {
                self.children.entry(number(row, 0)?).or_default().insert(number(row, 1)?);
            }
            Some(Answer::ViewReads) => {
                self.reads.entry(number(row, 0)?).or_default().insert(number(row, 1)?);
            }
            Some(Answer::ViewTrees) => {
                self.origins.insert(number(row, 0)?, origins(cell(row, 1)?));
            }
            Some(Answer::Roles) => {
                let role = Role { superuser: truth(row, 1)?, member_of: Vec::new(), inherits: Vec::new() };
                self.schema.roles.insert(cell(row, 0)?.to_owned(), role);
            }
            Some(Answer::Memberships) => {
                self.groups.entry(cell(row, 0)?.to_owned()).or_default().insert(cell(row, 1)?.to_owned());
                if truth(row, 2)? {
                    self.heirs.entry(cell(row, 0)?.to_owned()).or_default().insert(cell(row, 1)?.to_owned());
                }
            }
            Some(Answer::Functions) => {
                let (schema, name) = (cell(row, 0)?.into(), cell(row, 1)?);
                self.schema.user_functions.insert(name.to_owned());
                let function = Function { schema, name: name.into(), security_definer: truth(row, 2)? };
                self.schema.functions.push(function);
            }
            Some(Answer::SealedFunctions) => {
                self.schema.sealed_functions.insert(cell(row, 0)?.to_owned());
            }
            Some(Answer::Movers) => {
                self.schema.movers.insert(cell(row, 0)?.to_owned());
            }
            Some(Answer::Rules) => {
                let place =
                    |text: &str| text.split_once('.').and_then(|(r, c)| Some((r.parse().ok()?, c.parse().ok()?)));
                self.schema.rules.push(Rule {
                    name: cell(row, 0)?.into(),
                    relation: number(row, 1)?,
                    columns: cell(row, 3)?.split(' ').filter_map(place).collect(),
                    whole_row: truth(row, 2)?,
                });
            }
            Some(Answer::LensViews) => {
                self.schema.lens_views.insert(number(row, 0)?, cell(row, 1)?.into());
            }
            Some(Answer::Readers) => {
                let place = (number(row, 0)?, number(row, 1)?);
                self.schema.readers.entry(place).or_default().push(cell(row, 2)?.into());
            }
            Some(Answer::Aggregates) => {
                let schema = &mut self.schema;
                let names = if truth(row, 1)? { &mut schema.aggregates } else { &mut schema.routines };
                names.insert(cell(row, 0)?.to_owned());
            }
            Some(Answer::Behind) => self.schema.behind.push(behind(row)?),
            None => return Err(Error::Control("the catalog batch gave too many answers".into())),
        }
        Ok(())
    }

    fn relation(&mut self, row: &SimpleQueryRow) -> Result<()> {
        let kind = match cell(row, 3)? {
            "r" => RelKind::Table,
            "p" => RelKind::Partitioned,
            "v" => RelKind::View,
            "m" => RelKind::MatView,
            "f" => RelKind::Foreign,
            "S" => RelKind::Sequence,
            _ => RelKind::Composite,
        };
        let oid = number(row, 0)?;
        let primary_key =
            row.get(4).map_or_else(Vec::new, |keys| keys.split(' ').filter_map(|key| key.parse().ok()).collect());
        let relation = Relation {
            oid,
            schema: cell(row, 1)?.into(),
            name: cell(row, 2)?.into(),
            kind,
            columns: Vec::new(),
            primary_key,
            reads: Vec::new(),
            children: Vec::new(),
        };
        self.relations.insert(oid, relation);
        Ok(())
    }

    /// Columns come ordered by relation and attnum, after the relations.
    fn column(&mut self, row: &SimpleQueryRow) -> Result<()> {
        let column = Column {
            attnum: number(row, 1)?,
            name: cell(row, 2)?.into(),
            type_oid: number(row, 3)?,
            type_name: cell(row, 4)?.into(),
            typmod: number(row, 5)?,
            not_null: truth(row, 6)?,
            has_default: truth(row, 7)?,
            generated: truth(row, 8)?,
            sealed: None,
            sealed_array: false,
            source: None,
        };
        if let Some(relation) = self.relations.get_mut(&number(row, 0)?) {
            relation.columns.push(column);
        }
        Ok(())
    }

    fn finish(mut self) -> Schema {
        self.trace();
        for (oid, mut relation) in std::mem::take(&mut self.relations) {
            relation.children = closure(&self.children, oid);
            relation.reads = closure(&self.reads, oid);
            // A view that reads a partitioned table reads its partitions.
            let partitions: BTreeSet<u32> =
                relation.reads.iter().flat_map(|read| closure(&self.children, *read)).collect();
            relation.reads.extend(partitions.into_iter().filter(|p| !relation.reads.contains(p)).collect::<Vec<_>>());
            for column in &mut relation.columns {
                column.sealed = self.schema.sealed_domains.get(&column.type_oid).copied();
                if let Some(kind) = self.schema.sealed_arrays.get(&column.type_oid) {
                    column.sealed = Some(*kind);
                    column.sealed_array = true;
                }
            }
            self.schema.by_name.insert((relation.schema.clone(), relation.name.clone()), oid);
            self.schema.relations.insert(oid, Arc::new(relation));
        }
        for (name, role) in &mut self.schema.roles {
            role.member_of = closure(&self.groups, name.clone());
            role.inherits = closure(&self.heirs, name.clone());
        }
        self.schema
    }
}

impl Reading {
    /// Gives every view column its base column, through views of views.
    fn trace(&mut self) {
        let direct: HashMap<Place, Place> = (self.origins.iter())
            .flat_map(|(view, columns)| columns.iter().map(|(number, place)| ((*view, *number), *place)))
            .collect();
        for (oid, relation) in self.relations.iter_mut().filter(|(oid, _)| self.origins.contains_key(oid)) {
            for column in &mut relation.columns {
                let mut at = (*oid, column.attnum);
                // Definitions cannot be circular; the bound is for a catalog that lies.
                for _ in 0..1_000 {
                    match direct.get(&at) {
                        Some(next) => at = *next,
                        None => break,
                    }
                }
                let base = !self.origins.contains_key(&at.0);
                column.source = base.then_some(at);
            }
        }
    }
}

/// Everything reachable from `start`, without `start`, in order.
fn closure<T: Ord + std::hash::Hash + Clone>(edges: &HashMap<T, BTreeSet<T>>, start: T) -> Vec<T> {
    let mut found = BTreeSet::new();
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        for next in edges.get(&node).into_iter().flatten() {
            if seen.insert(next.clone()) {
                found.insert(next.clone());
                open.push(next.clone());
            }
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachability_is_transitive_and_ends_in_cycles() {
        let edges = HashMap::from([(1, BTreeSet::from([2, 3])), (2, BTreeSet::from([4, 1])), (4, BTreeSet::from([1]))]);
        assert_eq!(closure(&edges, 1), [2, 3, 4]);
        assert!(closure(&edges, 9).is_empty());
    }
}
