//! Any text: a decision, never a panic; edits ascend and stay inside the text.
#![no_main]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use pgveil::detect::Thresholds;
use pgveil::mask::Mask;
use pgveil::plan::{Cache, Decision, Request};
use pgveil::policy::rules::{
    ActorClass, ClassId, Level, Mode, OnFailure, ProtectedTable, Rules, SealedColumn, Treatment,
};
use pgveil::sql::schema::{Column, RelKind, Relation, Schema};
use pgveil::wire::types::{Kind, SqlType};

static RULES: OnceLock<Rules> = OnceLock::new();

fuzz_target!(|sql: &str| {
    let temporary = HashSet::new();
    let path = [Arc::from("public")];
    let cache = Cache::new(0);
    for class in 0..3 {
        let request = Request {
            sql,
            parameter_oids: &[],
            extended: true,
            class: ClassId(class),
            role: "app",
            search_path: &path,
            temporary: &temporary,
            rules: RULES.get_or_init(rules),
        };
        let (Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan)) = cache.decide(&request) else {
            continue;
        };
        let mut at = 0;
        for edit in &plan.edits {
            assert!(at <= edit.span.start && edit.span.start <= edit.span.end);
            assert!(sql.get(edit.span.start as usize..edit.span.end as usize).is_some());
            at = edit.span.end;
        }
    }
});

/// `public.users (id, email deterministic, full_name randomized, note)`; class 0 sees nothing, 1 everything, 2 not the note.
fn rules() -> Rules {
    let sealed = |id, attnum, name: &str, mode| {
        Arc::new(SealedColumn {
            id,
            relation: "public.users".into(),
            column: name.into(),
            relation_oid: 100,
            attnum,
            ty: SqlType { kind: Kind::Text, typmod: -1 },
            mode,
            level: Level::Restricted,
            mask: Mask::Null,
            on_failure: OnFailure::Error,
        })
    };
    let all = [sealed(1, 2, "email", Mode::Deterministic), sealed(2, 3, "full_name", Mode::Randomized)];
    let columns = (1i16..).zip(["id", "email", "full_name", "note"]).map(|(attnum, name)| Column {
        attnum,
        name: name.into(),
        type_oid: 25,
        type_name: "text".into(),
        typmod: -1,
        not_null: false,
        has_default: false,
        sealed: all.iter().any(|column| column.attnum == attnum).then_some(Kind::Text),
        sealed_array: false,
        source: None,
    });
    let relation = Relation {
        oid: 100,
        schema: "public".into(),
        name: "users".into(),
        kind: RelKind::Table,
        columns: columns.collect(),
        primary_key: vec![1],
        reads: Vec::new(),
        children: Vec::new(),
    };
    let mut schema = Schema { database: "app".into(), ..Schema::default() };
    schema.by_name.insert((relation.schema.clone(), relation.name.clone()), 100);
    schema.relations.insert(100, Arc::new(relation));
    let table = ProtectedTable {
        oid: 100,
        name: "public.users".into(),
        subject: None,
        levels: (1..=4).map(|attnum| (attnum, Level::Restricted)).collect(),
        pending: Vec::new(),
    };
    let class = |treatment, may: bool, hidden: &[(u32, i16)]| {
        let ids = || if may { HashSet::from([1, 2]) } else { HashSet::new() };
        ActorClass {
            role: String::new(),
            sealed: HashMap::from([(1, treatment), (2, treatment)]),
            may_search: ids(),
            may_write: ids(),
            hidden: hidden.iter().copied().collect(),
        }
    };
    Rules {
        version: 1,
        schema: Arc::new(schema),
        tables: HashMap::from([(100, Arc::new(table))]),
        sealed: all.iter().map(|column| ((100, column.attnum), column.clone())).collect(),
        by_id: all.iter().map(|column| (column.id, column.clone())).collect(),
        classes: vec![
            class(Treatment::Null, false, &[]),
            class(Treatment::Clear, true, &[]),
            class(Treatment::Mask, false, &[(100, 4)]),
        ],
        class_of: HashMap::new(),
        names: HashSet::from(["users".to_owned()]),
        code: pgveil::policy::code::UsersCode::default(),
        detect: Thresholds::default(),
        warnings: Vec::new(),
    }
}
