//! A catalog in which everything that a statement names exists, and rules that protect some of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pgveil::detect::Thresholds;
use pgveil::mask::Mask;
use pgveil::policy::code::UsersCode;
use pgveil::policy::rules::{
    ActorClass, ClassId, Level, Mode, OnFailure, ProtectedTable, Rules, SealedColumn, Treatment,
};
use pgveil::sql::schema::{Column, RelKind, Relation, Schema};
use pgveil::wire::types::{Kind, SqlType};

/// A relation that a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub schema: String,
    pub name: String,
    pub columns: Vec<String>,
    /// A query or data change reads or writes it.
    pub required: bool,
}

/// How a column is sealed, if it is.
pub type Seal = Option<(Kind, Mode)>;

/// Rules under which `protected` says of relations whether they are in the policy, and `seal` of their columns how.
pub fn rules(relations: &[Named], protected: impl Fn(usize) -> bool, seal: impl Fn(usize, usize) -> Seal) -> Rules {
    let mut schema = Schema { database: "app".into(), server_version: 150_000, ..Schema::default() };
    let mut rules = Rules::none(Thresholds::default());
    let mut id = 0;
    for (index, named) in relations.iter().enumerate() {
        let oid = 1000 + u32::try_from(index).unwrap_or(0);
        let full: Arc<str> = format!("{}.{}", named.schema, named.name).into();
        let protect = protected(index);
        let mut columns = Vec::new();
        for (at, name) in named.columns.iter().enumerate() {
            let attnum = i16::try_from(at + 1).unwrap_or(i16::MAX);
            let seal = seal(index, at).filter(|_| protect);
            columns.push(column(attnum, name, seal.map(|(kind, _)| kind)));
            let Some((kind, mode)) = seal else { continue };
            id += 1;
            let sealed = Arc::new(SealedColumn {
                id,
                relation: full.clone(),
                column: name.as_str().into(),
                relation_oid: oid,
                attnum,
                ty: SqlType { kind, typmod: -1 },
                mode,
                level: Level::Restricted,
                mask: Mask::Null,
                on_failure: OnFailure::Error,
            });
            rules.sealed.insert((oid, attnum), sealed.clone());
            rules.by_id.insert(id, sealed);
        }
        if protect {
            let levels = columns.iter().map(|column| (column.attnum, Level::Restricted)).collect();
            let table = ProtectedTable { oid, name: full, subject: None, levels, pending: Vec::new() };
            rules.tables.insert(oid, Arc::new(table));
            rules.names.insert(named.name.to_lowercase());
        }
        let (own, name): (Arc<str>, Arc<str>) = (named.schema.as_str().into(), named.name.as_str().into());
        schema.by_name.insert((own.clone(), name.clone()), oid);
        let (primary_key, reads, children) = (Vec::new(), Vec::new(), Vec::new());
        let relation = Relation { oid, schema: own, name, kind: RelKind::Table, columns, primary_key, reads, children };
        schema.relations.insert(oid, Arc::new(relation));
    }
    rules.version = 1;
    rules.schema = Arc::new(schema);
    rules.code = UsersCode::default();
    rules.classes = vec![class(id)];
    rules.class_of = HashMap::from([("app".to_owned(), ClassId(0))]);
    rules
}

fn column(attnum: i16, name: &str, sealed: Option<Kind>) -> Column {
    Column {
        attnum,
        name: name.into(),
        type_oid: 25,
        type_name: "text".into(),
        typmod: -1,
        not_null: false,
        has_default: false,
        generated: false,
        sealed,
        sealed_array: false,
        source: None,
    }
}

/// A class that may do everything.
fn class(ids: u32) -> ActorClass {
    let all = || (1..=ids).collect::<HashSet<u32>>();
    ActorClass {
        role: "app".to_owned(),
        sealed: (1..=ids).map(|id| (id, Treatment::Clear)).collect(),
        may_search: all(),
        may_write: all(),
        hidden: HashSet::new(),
        ..ActorClass::default()
    }
}
