//! The database of the targets that decide: two tables with sealed columns, and three classes of actors.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use pgveil::crypto::Keyring;
use pgveil::detect::Thresholds;
use pgveil::mask::Mask;
use pgveil::policy::code::UsersCode;
use pgveil::policy::rules::{
    ActorClass, ByColumn, ClassId, Level, Mode, OnFailure, ProtectedTable, Rules, SealedColumn, Treatment,
};
use pgveil::sql::schema::{Column, RelKind, Relation, Schema};
use pgveil::wire::types::{Kind, SqlType};

/// Name, and for sealed columns: id, kind, mode.
type Spec = (&'static str, Option<(u32, Kind, Mode)>);

const USERS: [Spec; 4] = [
    ("id", None),
    ("email", Some((1, Kind::Text, Mode::Deterministic))),
    ("full_name", Some((2, Kind::Text, Mode::Randomized))),
    ("note", None),
];
const ACCOUNTS: [Spec; 3] = [
    ("id", None),
    ("pin", Some((3, Kind::Int8, Mode::Deterministic))),
    ("birth", Some((4, Kind::Date, Mode::Randomized))),
];
const TABLES: [(u32, &str, &[Spec]); 2] = [(100, "users", &USERS), (101, "accounts", &ACCOUNTS)];
const IDS: [u32; 4] = [1, 2, 3, 4];

/// The keys of those columns. A seed in source code protects nothing.
pub static RING: LazyLock<Keyring> = LazyLock::new(|| {
    let columns = [
        (1, "public.users.email"),
        (2, "public.users.full_name"),
        (3, "public.accounts.pin"),
        (4, "public.accounts.birth"),
    ];
    Keyring::for_tests(&[1; 32], "app", &columns).expect("four ids, four names")
});

/// Class 0 sees nothing, 1 (`app`) everything, 2 (`analyst`) masks, and not the note.
pub static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(rules()));

fn rules() -> Rules {
    let mut schema = Schema { database: "app".into(), server_version: 150_000, ..Schema::default() };
    let (mut tables, mut sealed, mut by_id) = (HashMap::new(), HashMap::new(), ByColumn::default());
    for (oid, table, specs) in TABLES {
        let name: Arc<str> = format!("public.{table}").into();
        let mut columns = Vec::new();
        for (attnum, (column, spec)) in (1i16..).zip(specs) {
            columns.push(described(attnum, column, spec.map(|(_, kind, _)| kind)));
            let Some((id, kind, mode)) = *spec else { continue };
            let column = Arc::new(SealedColumn {
                id,
                relation: name.clone(),
                column: (*column).into(),
                relation_oid: oid,
                attnum,
                ty: SqlType { kind, typmod: -1 },
                mode,
                level: Level::Restricted,
                mask: Mask::Null,
                on_failure: OnFailure::Error,
            });
            sealed.insert((oid, attnum), column.clone());
            by_id.insert(id, column);
        }
        let levels = columns.iter().map(|column: &Column| (column.attnum, Level::Restricted)).collect();
        tables.insert(oid, Arc::new(ProtectedTable { oid, name, subject: None, levels, pending: Vec::new() }));
        schema.by_name.insert(("public".into(), table.into()), oid);
        schema.relations.insert(oid, Arc::new(relation(oid, table, columns)));
    }
    Rules {
        schema: Arc::new(schema),
        version: 1,
        tables,
        sealed,
        by_id,
        classes: vec![
            class(Treatment::Null, false, &[]),
            class(Treatment::Clear, true, &[]),
            class(Treatment::Mask, false, &[(100, 4)]),
        ],
        class_of: HashMap::from([("app".to_owned(), ClassId(1)), ("analyst".to_owned(), ClassId(2))]),
        names: HashSet::from(["users".to_owned(), "accounts".to_owned()]),
        code: UsersCode::default(),
        views: Vec::new(),
        purposes: Vec::new(),
        vouchers: Vec::new(),
        reviewed: Vec::new(),
        grounds: Default::default(),
        observe: None,
        readers: Default::default(),
        copies: Default::default(),
        detect: Thresholds::default(),
        warnings: Vec::new(),
    }
}

fn described(attnum: i16, name: &str, sealed: Option<Kind>) -> Column {
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

fn relation(oid: u32, name: &str, columns: Vec<Column>) -> Relation {
    Relation {
        oid,
        schema: "public".into(),
        name: name.into(),
        kind: RelKind::Table,
        columns,
        primary_key: vec![1],
        reads: Vec::new(),
        children: Vec::new(),
    }
}

fn class(treatment: Treatment, may: bool, hidden: &[(u32, i16)]) -> ActorClass {
    let ids = || if may { HashSet::from(IDS) } else { HashSet::new() };
    ActorClass {
        role: String::new(),
        sealed: IDS.iter().map(|id| (*id, treatment)).collect(),
        may_search: ids(),
        may_write: ids(),
        hidden: hidden.iter().copied().collect(),
        ..ActorClass::default()
    }
}
