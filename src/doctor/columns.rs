//! Sealed columns: their domains, what is stored in them, whether it opens, and the indexes that searching needs.
//!
//! In: rules, keyring, the control connection. Out: checks by column. Never: a cell outside this process, or in it for
//! longer than opening takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::Client;
use zeroize::Zeroizing;

use super::judge::Recorded;
use super::{Check, Given, Severity, Unanswered, ask, plural};
use crate::lens::sealed_constraint;
use crate::policy::rules::{Mode, Rules, SealedColumn};
use crate::sql::literal::quoted as literal;
use crate::sql::name::quoted;
use crate::sql::schema::{RelKind, Relation, Schema};

/// Tables up to this size are read whole.
const WHOLE_BYTES_MAX: i64 = 256 << 20;
/// Bytes sampled of larger ones, about.
const SAMPLE_BYTES: i64 = 16 << 20;
/// Cells opened of each column.
const OPENED: i64 = 20;

const CONSTRAINTS: &str = "select t.oid, coalesce((select pg_get_constraintdef(c.oid) from pg_constraint c \
       where c.contypid = t.oid and c.conname = 'sealed'), ''), \
     coalesce((select c.convalidated from pg_constraint c where c.contypid = t.oid and c.conname = 'sealed'), true) \
     from unnest($1::oid[]) as w(oid) join pg_type t on t.oid = w.oid";

const INDEXED: &str = "select distinct i.indrelid, i.indkey[0] from pg_index i \
     where i.indisvalid and i.indpred is null and i.indrelid = any($1)";

/// `schema.table`, quoted.
pub(super) fn relation_name(relation: &Relation) -> String {
    format!("{}.{}", quoted(&relation.schema), quoted(&relation.name))
}

/// The CHECK of each sealed domain is the one `pgveil apply` makes, and holds for all that is stored.
pub(super) async fn domains(client: &Client, schema: &Schema, found: &mut Vec<Check>) {
    let oids: Vec<u32> = schema.sealed_domains.keys().copied().collect();
    if oids.is_empty() {
        return;
    }
    let (expected, rows) = match constraints(client, &oids).await {
        Ok(answer) => answer,
        Err(error) => {
            let message = format!("the CHECKs of the sealed domains could not be compared: {}", error.said);
            found.push(Check::warning("domain", message).sql("grant temporary on database DATABASE to CONTROL"));
            return;
        }
    };
    let mut sound = 0;
    for (oid, definition, validated) in rows {
        let Some(kind) = schema.sealed_domains.get(&oid) else { continue };
        let domain = format!("pgveil.sealed_{}", kind.name());
        // An unvalidated constraint is printed with NOT VALID behind it.
        if definition.trim_end_matches(" NOT VALID") != expected {
            let what = if definition.is_empty() { "has lost its CHECK" } else { "has another CHECK than pgveil's" };
            let message = format!("{domain} {what}: plaintext can be written past the proxy");
            let mut check = Check::hole("domain", message);
            if !definition.is_empty() {
                check = check.sql(format!("alter domain {domain} drop constraint sealed"));
            }
            found.push(check.sql(format!("alter domain {domain} add {}", sealed_constraint())));
        } else if !validated {
            let message = format!("the CHECK of {domain} is not validated: rows may hold plaintext");
            let sql = format!("alter domain {domain} validate constraint sealed");
            found.push(Check::hole("domain", message).sql(sql));
        } else {
            sound += 1;
        }
    }
    found.push(Check::ok("domain", format!("{} with a CHECK that stops plaintext", plural(sound, "sealed domain"))));
}

type Constraint = (u32, String, bool);

/// What PostgreSQL makes of our CHECK, from a domain that is rolled back; and what there is.
async fn constraints(client: &Client, oids: &[u32]) -> Result<(String, Vec<Constraint>), Unanswered> {
    let sql = format!("begin; create domain pg_temp.pgveil_doctor as bytea {}", sealed_constraint());
    let made = client.batch_execute(&sql).await;
    let expected = match made {
        Ok(()) => {
            let of = "select pg_get_constraintdef(oid) from pg_constraint \
                where contypid = 'pg_temp.pgveil_doctor'::regtype and conname = 'sealed'";
            ask(client, of, &[]).await.map(|rows| rows.first().map_or(String::new(), |row| row.get(0)))
        }
        Err(error) => Err(error.into()),
    };
    let rows = if expected.is_ok() { ask(client, CONSTRAINTS, &[&oids]).await } else { Ok(Vec::new()) };
    client.batch_execute("rollback").await?;
    let rows = rows?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    Ok((expected?, rows))
}

/// Everything about columns that the policy encrypts.
pub(super) async fn sealed(
    client: &Client,
    given: &Given<'_>,
    rules: &Rules,
    recorded: &[Recorded],
    found: &mut Vec<Check>,
) {
    for table in rules.tables.values() {
        for column in &table.pending {
            let message = "the policy encrypts it, and it is stored in plaintext";
            let check = Check::hole("sealed", message).table(&table.name).column(column);
            found.push(check.run("pgveil apply"));
        }
    }
    let mut tables: BTreeMap<Arc<str>, Vec<Arc<SealedColumn>>> = BTreeMap::new();
    for column in rules.sealed.values() {
        tables.entry(column.relation.clone()).or_default().push(column.clone());
    }
    let oids: Vec<u32> = tables.values().filter_map(|columns| columns.first()).map(|c| c.relation_oid).collect();
    let indexed: Result<Vec<(u32, i16)>, _> =
        ask(client, INDEXED, &[&oids]).await.map(|rows| rows.iter().map(|row| (row.get(0), row.get(1))).collect());
    for columns in tables.values_mut() {
        columns.sort_by_key(|column| column.attnum);
        let Some(relation) = columns.first().and_then(|c| rules.schema.relation(c.relation_oid)) else { continue };
        for column in columns.iter() {
            found.push(of_column("sealed", column, Severity::Ok, "its type lets nothing but envelopes in"));
            // What `apply` records of a table holds for its partitions and children.
            if given.policy.table(&relation.schema, &relation.name).is_some() {
                found.push(record(column, relation, recorded));
            }
            if let (Mode::Deterministic, Ok(indexed)) = (column.mode, &indexed) {
                found.push(index(column, relation, indexed));
            }
        }
        if relation.kind == RelKind::Table {
            stored(client, given, relation, columns, found).await;
        }
    }
}

fn of_column(check: &str, column: &SealedColumn, severity: Severity, message: impl Into<String>) -> Check {
    Check::new(severity, check, message).table(&column.relation).column(&column.column)
}

fn record(column: &SealedColumn, relation: &Relation, recorded: &[Recorded]) -> Check {
    let same = |r: &&Recorded| r.relation == column.relation_oid && r.attnum == column.attnum;
    let mode = match column.mode {
        Mode::Randomized => "randomized",
        Mode::Deterministic => "deterministic",
    };
    let sql = format!(
        "insert into pgveil.columns (relation, attnum, column_name, column_id, as_type, mode) \
         values ({}::pg_catalog.regclass, {}, {}, {}, {}, {}) on conflict (relation, attnum) do update \
         set column_name = excluded.column_name, column_id = excluded.column_id, as_type = excluded.as_type, \
         mode = excluded.mode",
        literal(&relation_name(relation)),
        column.attnum,
        literal(&column.column),
        column.id,
        literal(&column.ty.to_string()),
        literal(mode)
    );
    match recorded.iter().find(same) {
        Some(row) if row.id == i64::from(column.id) && *row.column == *column.column => {
            of_column("recorded", column, Severity::Ok, format!("recorded with column id {}", column.id))
        }
        Some(row) if row.id == i64::from(column.id) => {
            let message = format!("recorded in pgveil.columns under its former name {}", row.column);
            of_column("recorded", column, Severity::Warning, message).sql(sql)
        }
        Some(row) => {
            let message = format!(
                "pgveil.columns has column id {} and the keyring {}: one is not this column's",
                row.id, column.id
            );
            of_column("recorded", column, Severity::Hole, message).sql(sql)
        }
        None => {
            let message = "not recorded in pgveil.columns: after a restore its type is not known";
            of_column("recorded", column, Severity::Warning, message).sql(sql)
        }
    }
}

fn index(column: &SealedColumn, relation: &Relation, indexed: &[(u32, i16)]) -> Check {
    if indexed.contains(&(column.relation_oid, column.attnum)) {
        return of_column("index", column, Severity::Ok, "an index finds its values");
    }
    let message = "deterministic, and no index begins with it: every search reads the whole table";
    let sql = format!("create index on {} ({})", relation_name(relation), quoted(&column.column));
    of_column("index", column, Severity::Warning, message).sql(sql)
}

/// What the rows of one table hold.
async fn stored(
    client: &Client,
    given: &Given<'_>,
    relation: &Relation,
    columns: &[Arc<SealedColumn>],
    found: &mut Vec<Check>,
) {
    let counted = count(client, given, relation, columns).await;
    let Counted { whole, rows, columns: counts } = match counted {
        Ok(counted) => counted,
        Err(error) => return found.push(unread("envelopes", relation, &error)),
    };
    let name = relation_name(relation);
    for (column, count) in columns.iter().zip(counts) {
        let cell = quoted(&column.column);
        if count.foreign_bytes > 0 {
            let held = plural(usize::try_from(count.foreign_bytes).unwrap_or(usize::MAX), "row");
            let message = format!("{held} of {rows} hold something else than an envelope: it is there in plaintext");
            let check = of_column("envelopes", column, Severity::Hole, message);
            let select = format!(
                "select ctid from only {name} where pg_catalog.substr({cell}::bytea, 1, 3) <> '\\xfed101' \
                 or pg_catalog.octet_length({cell}::bytea) < 48"
            );
            let advice =
                "write those values anew through pgveil as a role that may, and the old row versions: vacuum full";
            found.push(check.sql(select).todo_by_hand(advice));
        } else {
            let message = format!("envelopes in all {} cells", count.cells);
            found.push(of_column("envelopes", column, Severity::Ok, message));
        }
        if count.others > 0 {
            let message = format!(
                "{} of {} cells are envelopes of another column than id {}: moved or planted, pgveil does not open them",
                count.others, count.cells, column.id
            );
            let own = hex::encode(column.id.to_be_bytes());
            let select = format!(
                "select ctid from only {name} where pg_catalog.substr({cell}::bytea, 1, 3) = '\\xfed101' \
                 and pg_catalog.substr({cell}::bytea, 9, 4) <> '\\x{own}'"
            );
            found.push(of_column("column_id", column, Severity::Hole, message).sql(select));
        } else {
            found.push(of_column("column_id", column, Severity::Ok, "each names this column"));
        }
        if !whole {
            let message = format!("the table is large: {rows} rows were looked at");
            found.push(of_column("envelopes", column, Severity::Warning, message).run("pgveil doctor --full"));
        }
        if given.keyring.is_some_and(|ring| ring.has_column(column.id)) {
            found.push(opens(client, given, relation, column).await);
        }
    }
}

fn unread(check: &str, relation: &Relation, error: &Unanswered) -> Check {
    let name = relation_name(relation);
    let table = relation.qualified();
    if error.denied {
        let message = "the control account may not read it, so what is stored was not looked at";
        return Check::warning(check, message).table(&table).sql(format!("grant select on {name} to CONTROL"));
    }
    let message = format!("what is stored was not looked at: {}", error.said);
    let warning = Check::warning(check, message).table(&table);
    if error.timeout { warning.run("pgveil doctor --full") } else { warning }
}

struct Count {
    cells: i64,
    foreign_bytes: i64,
    others: i64,
}

struct Counted {
    whole: bool,
    rows: i64,
    columns: Vec<Count>,
}

async fn count(
    client: &Client,
    given: &Given<'_>,
    relation: &Relation,
    columns: &[Arc<SealedColumn>],
) -> Result<Counted, Unanswered> {
    let size = ask(client, "select pg_table_size($1::oid)", &[&relation.oid]).await?;
    let size: i64 = size.first().map_or(0, |row| row.get(0));
    let whole = given.full || size <= WHOLE_BYTES_MAX;
    let mut sql = "select count(*)".to_owned();
    for column in columns {
        let cell = format!("t.{}::bytea", quoted(&column.column));
        let magic = format!("substr({cell}, 1, 3) = '\\xfed101'");
        let own = hex::encode(column.id.to_be_bytes());
        sql.push_str(&format!(
            ", count({cell}), count(*) filter (where octet_length({cell}) < 48 or not {magic}), \
             count(*) filter (where {magic} and substr({cell}, 9, 4) <> '\\x{own}')"
        ));
    }
    sql.push_str(&format!(" from only {} as t", relation_name(relation)));
    if !whole {
        #[allow(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = (SAMPLE_BYTES as f64 / size as f64 * 100.0).clamp(0.000_1, 100.0);
        sql.push_str(&format!(" tablesample system ({percent:.4})"));
    }
    let rows = ask(client, &sql, &[]).await?;
    let row = rows.first();
    let number = |at: usize| row.map_or(0, |row| row.get::<_, i64>(at));
    let columns = (0..columns.len()).map(|n| 1 + n * 3).map(|at| Count {
        cells: number(at),
        foreign_bytes: number(at + 1),
        others: number(at + 2),
    });
    Ok(Counted { whole, rows: number(0), columns: columns.collect() })
}

/// A few cells are opened, here and for nobody.
async fn opens(client: &Client, given: &Given<'_>, relation: &Relation, column: &SealedColumn) -> Check {
    let cell = format!("t.{}::bytea", quoted(&column.column));
    let own = hex::encode(column.id.to_be_bytes());
    let sql = format!(
        "select {cell} from only {} as t where substr({cell}, 1, 3) = '\\xfed101' and substr({cell}, 9, 4) = '\\x{own}' \
         and octet_length({cell}) <= 65536 limit {OPENED}",
        relation_name(relation)
    );
    let rows = match ask(client, &sql, &[]).await {
        Ok(rows) => rows,
        Err(error) => return unread("opens", relation, &error).column(&column.column),
    };
    let Some(ring) = given.keyring else { return of_column("opens", column, Severity::Warning, "there is no keyring") };
    let mut plain = Zeroizing::new(Vec::new());
    let mut closed = 0;
    for row in &rows {
        plain.clear();
        closed += usize::from(ring.open(row.get(0), &mut plain).is_err());
    }
    if closed == 0 {
        return of_column("opens", column, Severity::Ok, format!("{} opened", plural(rows.len(), "cell")));
    }
    let message = format!("{closed} of {} cells do not open with this keyring", rows.len());
    let advice = "put the keyring file back that they were sealed with; if that is this one, they were tampered with";
    of_column("opens", column, Severity::Hole, message).todo_by_hand(advice)
}
