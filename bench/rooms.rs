//! Benches of the pure rooms: `cargo bench --bench rooms`, or `make bench`.
//!
//! One function per room; each adds its benches to the shared `Criterion`. The first lines printed say which of the
//! processor's cryptographic instructions are there: without them sealing is many times slower.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and stops when its set-up fails")]

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pgveil::audit;
use pgveil::clock::Now;
use pgveil::crypto::{Keyring, OrderValue, SealMode};
use pgveil::detect::{Detector, Thresholds};
use pgveil::event::{Access, Action, Actor, ActorAuth, Event, EventKind, Pseudonym, Shown, Subject, Touch};
use pgveil::mask::Mask;
use pgveil::plan::{Cache, Request};
use pgveil::policy::rules::{
    ActorClass, ClassId, Level, Mode, OnFailure, ProtectedTable, Rules, SealedColumn, Treatment,
};
use pgveil::secret::{Entropy, Key};
use pgveil::sql::schema::{Column, RelKind, Relation, Schema};
use pgveil::wire::copy::{Layout, Splitter};
use pgveil::wire::types::{Format, Kind, SqlType, Style};
use pgveil::wire::value;

criterion_group!(rooms, hardware, crypto, values, sql, watch, watch_many, planning);
criterion_main!(rooms);

/// Which instructions the ciphers' run-time detection finds.
fn hardware(_: &mut Criterion) {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("AES", std::arch::is_x86_feature_detected!("aes")),
        ("PCLMULQDQ (POLYVAL)", std::arch::is_x86_feature_detected!("pclmulqdq")),
        ("SHA", std::arch::is_x86_feature_detected!("sha")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [
        ("AES", std::arch::is_aarch64_feature_detected!("aes")),
        ("PMULL (POLYVAL)", std::arch::is_aarch64_feature_detected!("pmull")),
        ("SHA2", std::arch::is_aarch64_feature_detected!("sha2")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&str, bool); 0] = [];
    for (name, there) in found {
        println!("hardware {name}: {}", if there { "yes" } else { "NO, expect ten times the figures below" });
    }
    if cfg!(debug_assertions) {
        println!("built without optimisation: the figures mean nothing");
    }
}

/// Counts: a bench needs fresh nonces, not unpredictable ones.
struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        for (byte, count) in out.iter_mut().zip(self.0.to_le_bytes().into_iter().cycle()) {
            *byte = count;
        }
    }
}

fn crypto(c: &mut Criterion) {
    let ring = Keyring::for_tests(&[1; 32], "app", &[(1, "public.users.email"), (2, "public.users.ssn")]).unwrap();
    let ssn = b"123-45-6789";
    let mut entropy = Counter(0);
    let mut out = Vec::with_capacity(4096);

    for (name, mode) in
        [("seal_short_cell", SealMode::Randomized), ("seal_short_cell_deterministic", SealMode::Deterministic)]
    {
        c.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                ring.seal(2, mode, 1, black_box(ssn), &mut entropy, &mut out).unwrap();
                black_box(&out);
            });
        });
    }

    let mut cell = Vec::new();
    ring.seal(2, SealMode::Randomized, 1, ssn, &mut entropy, &mut cell).unwrap();
    c.bench_function("open_short_cell", |b| {
        b.iter(|| {
            out.clear();
            ring.open(black_box(&cell), &mut out).unwrap();
            black_box(&out);
        });
    });

    let mut kilobyte = Vec::new();
    ring.seal(2, SealMode::Randomized, 1, &[b'x'; 1024], &mut entropy, &mut kilobyte).unwrap();
    c.bench_function("open_1_KiB_cell", |b| {
        b.iter(|| {
            out.clear();
            ring.open(black_box(&kilobyte), &mut out).unwrap();
            black_box(&out);
        });
    });

    c.bench_function("token", |b| b.iter(|| ring.equality_token(2, black_box(ssn))));
    c.bench_function("order_token_date", |b| b.iter(|| ring.order_token(2, OrderValue::int4(black_box(8825)))));
    c.bench_function("pseudonym", |b| b.iter(|| ring.subject_pseudonym("user", black_box(b"4711"))));

    c.bench_function("refuse_flipped_cell", |b| {
        let mut flipped = cell.clone();
        *flipped.last_mut().unwrap() ^= 1;
        b.iter_batched(Vec::new, |mut out| ring.open(&flipped, &mut out).unwrap_err(), BatchSize::SmallInput);
    });
}

/// One field of each sort: client form to plaintext, plaintext to client form; one COPY row.
fn values(c: &mut Criterion) {
    let style = Style { time_zone: "Europe/Berlin".into(), ..Style::default() };
    let mut out = Vec::with_capacity(256);
    for (name, text) in [
        ("text", "ada.lovelace@example.com"),
        ("varchar(320)", "ada.lovelace@example.com"),
        ("int8", "1234567890"),
        ("numeric(10,2)", "12345.67"),
        ("float8", "52.520007"),
        ("date", "1985-07-23"),
        ("timestamptz", "2024-02-29 12:34:56.789+01"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("jsonb", "{\"b\": [1, 2.50, null], \"a\": \"x\"}"),
    ] {
        let ty = SqlType::parse(name).unwrap();
        let mut plaintext = Vec::new();
        value::decode(ty, Format::Text, text.as_bytes(), &style, &mut plaintext).unwrap();
        c.bench_function(&format!("decode_text_{name}"), |b| {
            b.iter(|| {
                out.clear();
                value::decode(ty, Format::Text, black_box(text.as_bytes()), &style, &mut out).unwrap();
            });
        });
        c.bench_function(&format!("encode_text_{name}"), |b| {
            b.iter(|| {
                out.clear();
                value::encode(ty, black_box(&plaintext), Format::Text, &style, &mut out).unwrap();
            });
        });
    }
    let layout = Arc::new(Layout::text());
    let rows = b"17\tada.lovelace@example.com\tAda Lovelace\t1985-07-23\t\\N\n".repeat(100);
    c.bench_function("copy_100_rows_one_field_replaced", |b| {
        b.iter(|| {
            out.clear();
            let mut splitter = Splitter::new(layout.clone(), 1 << 20);
            splitter.feed(black_box(&rows));
            while let Some(row) = splitter.next().unwrap() {
                let mut rewriter = row.rewriter();
                rewriter.replace(1, Some(b"x"), &mut out);
                rewriter.finish(&mut out);
            }
        });
    });
}

/// What a plan-cache miss costs in the SQL room.
fn sql(c: &mut Criterion) {
    use pgveil::sql::{lex, mentions, parse, shape};
    let text = "SELECT abalance FROM pgbench_accounts WHERE aid = $1;";
    let names = ["users", "appointments", "medical_records"].map(str::to_owned).into_iter().collect();
    c.bench_function("lex_pgbench_select", |b| b.iter(|| lex(black_box(text), 1_000).unwrap()));
    c.bench_function("lex_and_mentions_pgbench_select", |b| {
        b.iter(|| mentions(text, &lex(black_box(text), 1_000).unwrap(), &names));
    });
    let tokens = lex(text, 1_000).unwrap();
    c.bench_function("shape_pgbench_select", |b| b.iter(|| shape(black_box(text), &tokens)));
    c.bench_function("parse_pgbench_select", |b| b.iter(|| parse::parse(black_box(text), tokens.clone()).unwrap()));
}

/// A statement of the usual size: two columns, three people.
fn statement() -> Event {
    let mut event = Event::new(EventKind::Statement, 1_700_000_000_000_000);
    event.connection = 12;
    event.statement = 345;
    let actor = Actor {
        role: "app".into(),
        database: "medico".into(),
        auth: ActorAuth::ScramSha256,
        certificate: None,
        application: "bench".into(),
        client: Some([127, 0, 0, 1].into()),
        purpose: None,
        purpose_by: None,
        person: None,
    };
    event.actor = Some(actor.into());
    let touch = |column: &str| Touch { relation: "public.users".into(), column: column.into(), shown: Shown::Clear };
    let action = Action {
        text: Some("SELECT email, full_name FROM users WHERE id = ANY ($1)".into()),
        access: Access::Read,
        touches: ["email", "full_name"].map(touch).to_vec(),
        ..Action::none()
    };
    event.action = Some(action.into());
    event.rows = 3;
    for person in 0u128..3 {
        event.subjects.known.push(Subject { kind: "user".into(), pseudonym: Pseudonym(person) });
    }
    event
}

/// The desk's two steps for every event, without its fsync.
fn watch(c: &mut Criterion) {
    let event = statement();
    let dir = tempfile::tempdir().unwrap();
    let settings = audit::Settings::new(dir.path().join("audit"));
    let (mut log, _) = audit::open(&settings, Key::new([1; 32]), &[1; 16], 0).unwrap();
    c.bench_function("audit_append", |b| {
        b.iter(|| {
            log.append(black_box(&event));
            if log.pending_bytes() >= 1 << 20 {
                log.sync(0).unwrap();
            }
        });
    });

    let (mut detector, thresholds, mut alerts) = (Detector::new(1_000), Thresholds::default(), Vec::new());
    let mut now = Now { mono_ns: 0, unix_us: event.at_us };
    c.bench_function("detect_observe", |b| {
        b.iter(|| {
            now.mono_ns += 1_000_000;
            detector.observe(black_box(&event), now, &thresholds, &mut alerts);
            alerts.clear();
        });
    });
}

/// An event of one of two hundred thousand actors, each with windows and a baseline: as when a fifth of a million works.
fn watch_many(c: &mut Criterion) {
    let thresholds = Thresholds { actors_max: Some(1_000_000), ..Thresholds::default() };
    let (mut detector, mut alerts) = (Detector::new(1_000_000), Vec::new());
    let events: Vec<Event> = (0..200_000)
        .map(|n| {
            let mut event = statement();
            let actor = event.actor.as_deref().cloned();
            event.actor = actor.map(|actor| Actor { role: format!("clinician{n}"), ..actor }.into());
            event
        })
        .collect();
    let (mut now, mut next) = (Now { mono_ns: 0, unix_us: 0 }, 0);
    c.bench_function("detect_observe_200k", |b| {
        b.iter(|| {
            // Not one after the other in memory.
            next = (next + 77_777) % events.len();
            now.mono_ns += 10_000;
            detector.observe(black_box(&events[next]), now, &thresholds, &mut alerts);
            alerts.clear();
        });
    });
}

/// A decision made (lexed, parsed, resolved) and one found again.
fn planning(c: &mut Criterion) {
    let rules = rules();
    let temporary = HashSet::new();
    let path = [Arc::from("public")];
    let ask = |cache: &Cache, sql: &str| {
        let request = Request {
            sql,
            parameter_oids: &[],
            extended: true,
            class: ClassId(1),
            role: "app",
            keys: 0,
            search_path: &path,
            temporary: &temporary,
            rules: &rules,
        };
        cache.decide(&request)
    };
    let texts = [
        ("lookup", "SELECT u.id, u.email, u.full_name FROM users u WHERE u.email = $1 LIMIT $2"),
        ("insert", "INSERT INTO users (id, email, full_name) VALUES ($1, $2, $3) RETURNING id"),
        ("unprotected", "SELECT a.id, b.name FROM accounts a JOIN branches b ON a.branch = b.id WHERE a.id = $1"),
    ];
    let mut group = c.benchmark_group("plan");
    for (name, sql) in texts {
        let none = Cache::new(0);
        group.bench_function(format!("{name} decided"), |b| b.iter(|| ask(&none, black_box(sql))));
        let kept = Cache::new(1_000);
        group.bench_function(format!("{name} found in cache"), |b| b.iter(|| ask(&kept, black_box(sql))));
    }
    group.finish();
}

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
        generated: false,
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
            sealed: [(1, treatment), (2, treatment)].into_iter().collect(),
            may_search: ids(),
            may_write: ids(),
            hidden: hidden.iter().copied().collect(),
            ..ActorClass::default()
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
