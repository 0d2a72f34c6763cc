//! A small clinic.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use crate::detect::Thresholds;
use crate::mask::Mask;
use crate::policy::code::{Reached, UsersCode};
use crate::policy::grounds::Grounds;
use crate::policy::rules::{
    ActorClass, ByColumn, Level, Mode, OnFailure, ProtectedTable, Rules, SealedColumn, SubjectKey, Treatment,
};
use crate::sql::schema::{Column, RelKind, Relation, Schema};
use crate::wire::types::{Kind, SqlType};

/// Name, and for sealed columns: id, kind, typmod, mode.
type Spec = (&'static str, Option<(u32, Kind, i32, Mode)>);

const D: Mode = Mode::Deterministic;
const R: Mode = Mode::Randomized;
const EMAIL: Option<(u32, Kind, i32, Mode)> = Some((1, Kind::Varchar, 324, D));

/// Oid, schema, name, the subject's key, the primary key.
type TableSpec = (u32, &'static str, &'static str, Option<i16>, &'static [i16], &'static [Spec]);

const TABLES: &[TableSpec] = &[
    (
        100,
        "public",
        "users",
        Some(1),
        &[1],
        &[
            ("id", None),
            ("email", EMAIL),
            ("full_name", Some((2, Kind::Text, -1, R))),
            ("dob", Some((3, Kind::Date, -1, R))),
            ("nickname", None),
            ("note", None),
        ],
    ),
    (
        101,
        "public",
        "orders",
        Some(2),
        &[1, 2],
        &[
            ("id", None),
            ("user_id", None),
            ("email", EMAIL),
            ("total", None),
            ("code", Some((5, Kind::Text, -1, D))),
            ("memo", Some((13, Kind::Text, -1, R))),
        ],
    ),
    (
        102,
        "shop",
        "orders",
        None,
        &[],
        &[("id", None), ("secret", Some((6, Kind::Text, -1, D))), ("aside", Some((15, Kind::Text, -1, R)))],
    ),
    (103, "public", "Mixed Case", None, &[1], &[("Id", None), ("Email", Some((7, Kind::Text, -1, D)))]),
    (
        104,
        "public",
        "accounts",
        None,
        &[1],
        &[
            ("id", None),
            ("pin", Some((8, Kind::Int4, -1, D))),
            ("balance", Some((9, Kind::Numeric, ((10 << 16) | 2) + 4, D))),
            ("vip", Some((10, Kind::Bool, -1, D))),
            ("since", Some((11, Kind::Timestamptz, -1, D))),
            ("birth", Some((12, Kind::Date, -1, D))),
            ("extra", Some((14, Kind::Json, -1, R))),
        ],
    ),
];

fn column(attnum: i16, name: &str, sealed: Option<Kind>, source: Option<(u32, i16)>) -> Column {
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
        source,
    }
}

fn relation(
    (oid, schema, name): (u32, &str, &str),
    kind: RelKind,
    columns: Vec<Column>,
    primary_key: &[i16],
    reads: Vec<u32>,
) -> Relation {
    Relation {
        oid,
        schema: schema.into(),
        name: name.into(),
        kind,
        columns,
        primary_key: primary_key.to_vec(),
        reads,
        children: Vec::new(),
    }
}

struct Built {
    schema: Schema,
    tables: HashMap<u32, Arc<ProtectedTable>>,
    sealed: HashMap<(u32, i16), Arc<SealedColumn>>,
    by_id: ByColumn<Arc<SealedColumn>>,
}

impl Built {
    fn relation(&mut self, relation: Relation) {
        self.schema.by_name.insert((relation.schema.clone(), relation.name.clone()), relation.oid);
        self.schema.relations.insert(relation.oid, Arc::new(relation));
    }

    fn table(&mut self, (oid, schema, name, subject, key, specs): TableSpec) {
        let full: Arc<str> = format!("{schema}.{name}").into();
        let mut columns = Vec::new();
        for (attnum, (column_name, sealed)) in (1i16..).zip(specs) {
            columns.push(column(attnum, column_name, sealed.map(|sealed| sealed.1), None));
            let Some((id, kind, typmod, mode)) = *sealed else { continue };
            let sealed = Arc::new(SealedColumn {
                id,
                relation: full.clone(),
                column: (*column_name).into(),
                relation_oid: oid,
                attnum,
                ty: SqlType { kind, typmod },
                mode,
                level: Level::Restricted,
                mask: Mask::Null,
                on_failure: OnFailure::Error,
            });
            self.by_id.entry(id).or_insert_with(|| sealed.clone());
            self.sealed.insert((oid, attnum), sealed);
        }
        let subject = subject.map(|attnum| SubjectKey {
            kind: "user".into(),
            attnum,
            column: columns[attnum as usize - 1].name.clone(),
        });
        let levels = columns.iter().map(|column| (column.attnum, Level::Restricted)).collect();
        let table = ProtectedTable { oid, name: full, subject, levels, pending: Vec::new() };
        self.tables.insert(oid, Arc::new(table));
        self.relation(relation((oid, schema, name), RelKind::Table, columns, key, Vec::new()));
    }
}

fn class(role: &str, treatment: Treatment, search: bool, write: bool, hidden: &[(u32, i16)]) -> ActorClass {
    let ids: Vec<u32> = (1..=15).collect();
    ActorClass {
        role: role.to_owned(),
        sealed: ids.iter().map(|id| (*id, treatment)).collect(),
        may_search: if search { ids.iter().copied().collect() } else { HashSet::new() },
        may_write: if write { ids.iter().copied().collect() } else { HashSet::new() },
        hidden: hidden.iter().copied().collect(),
        ..ActorClass::default()
    }
}

fn build() -> Rules {
    let schema = Schema { database: "clinic".to_owned(), server_version: 150_000, ..Schema::default() };
    let mut built = Built { schema, tables: HashMap::new(), sealed: HashMap::new(), by_id: ByColumn::default() };
    for spec in TABLES {
        built.table(*spec);
    }
    let pending = ProtectedTable {
        oid: 105,
        name: "public.patients".into(),
        subject: None,
        levels: HashMap::new(),
        pending: vec!["ssn".into(), "phone".into()],
    };
    built.tables.insert(105, Arc::new(pending));
    let plain = |names: &[&str]| (1i16..).zip(names).map(|(at, name)| column(at, name, None, None)).collect::<Vec<_>>();
    built.relation(relation((105, "public", "patients"), RelKind::Table, plain(&["id", "ssn", "phone"]), &[1], vec![]));
    built.relation(relation((106, "public", "notes"), RelKind::Table, plain(&["id", "body", "email"]), &[1], vec![]));
    built.relation(relation((109, "other", "users"), RelKind::Table, plain(&["id", "email"]), &[1], vec![]));
    for (oid, schema) in [(110, "public"), (111, "shop")] {
        built.table((oid, schema, "clients", None, &[1], &[("id", None), ("name", None)]));
    }
    let view = vec![
        column(1, "id", None, Some((100, 1))),
        column(2, "mail", Some(Kind::Varchar), Some((100, 2))),
        column(3, "name", Some(Kind::Text), Some((100, 3))),
        column(4, "shout", None, None),
        column(5, "note", None, Some((100, 6))),
    ];
    built.relation(relation((107, "public", "v_users"), RelKind::View, view, &[], vec![100]));
    let copy = vec![column(1, "id", None, None), column(2, "email", Some(Kind::Varchar), None)];
    built.relation(relation((108, "public", "users_copy"), RelKind::Table, copy, &[], vec![]));
    built.schema.user_functions.extend(["audit_it".to_owned(), "clean".to_owned()]);
    let names = ["users", "orders", "mixed case", "accounts", "patients", "v_users", "users_copy", "clients"];
    Rules {
        version: 7,
        schema: Arc::new(built.schema),
        tables: built.tables,
        sealed: built.sealed,
        by_id: built.by_id,
        classes: vec![
            class("", Treatment::Null, false, false, &[]),
            class("app", Treatment::Clear, true, true, &[]),
            class("analyst", Treatment::Mask, false, false, &[(100, 6), (110, 2), (111, 2)]),
            class("writer", Treatment::Null, false, true, &[]),
            class("denied", Treatment::Deny, false, false, &[]),
            class("masked", Treatment::Mask, false, false, &[]),
        ],
        class_of: HashMap::new(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        code: code(),
        views: Vec::new(),
        purposes: Vec::new(),
        vouchers: Vec::new(),
        reviewed: Vec::new(),
        grounds: Grounds::default(),
        observe: None,
        readers: Default::default(),
        copies: Default::default(),
        detect: Thresholds::default(),
        warnings: Vec::new(),
    }
}

fn code() -> UsersCode {
    let reached = |when: &str, function: &str| Reached {
        when: when.to_owned(),
        functions: [Arc::from(format!("public.{function}"))].into(),
        ..Reached::default()
    };
    let mut code = UsersCode::default();
    for name in ["audit_it", "clean"] {
        code.called.insert(name.to_owned(), reached("", name));
    }
    code.operators.insert("###".to_owned(), reached("operator ###", "clean"));
    code.read.insert("shown".to_owned(), reached("reading public.shown", "clean"));
    code.read.insert("mood".to_owned(), reached("using type public.mood", "clean"));
    code.written.insert("kept".to_owned(), reached("writing public.kept", "audit_it"));
    code
}

pub(crate) fn rules() -> &'static Rules {
    static RULES: OnceLock<Rules> = OnceLock::new();
    RULES.get_or_init(build)
}
