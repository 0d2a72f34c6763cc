//! As a role, past the proxy: what is really visible.
//!
//! In: a connection as that role, the rules. Out: a hole for every column above clearance, and for every table with hidden
//! rows, that answers. Never: a value (the server counts, and only counts come back), a message of the server about a
//! row: its SQLSTATE alone is told.

use std::sync::Arc;

use tokio_postgres::Client;

use super::columns::relation_name;
use super::{Check, Unanswered, ask, few, plural};
use crate::policy::lens::View;
use crate::policy::rules::{ActorClass, ProtectedTable, Rules};
use crate::sql::name::quoted;
use crate::sql::schema::Relation;

/// Rows counted of each column.
const ROWS: u32 = 1_000;

const SETTINGS: &str = "set search_path = pg_catalog; set default_transaction_read_only = on; set statement_timeout = '30s'; \
     set lock_timeout = '5s'; set client_min_messages = error";

const WHO: &str = "select session_user::text, current_setting('is_superuser') = 'on'";

const STATISTICS: &str = "select count(*) from pg_stats where schemaname = $1 and tablename = $2 and attname = any($3)";

/// What that login sees. `role` is the name it was given under.
pub async fn as_role(client: &Client, role: &str, rules: &Rules) -> Vec<Check> {
    let mut found = Vec::new();
    let settled = client.batch_execute(SETTINGS).await.map_err(Unanswered::from);
    let who = match settled {
        Ok(()) => ask(client, WHO, &[]).await,
        Err(error) => Err(error),
    };
    let (name, superuser): (String, bool) = match who {
        Ok(rows) if !rows.is_empty() => (rows[0].get(0), rows[0].get(1)),
        Ok(_) => return vec![Check::warning("as_role", "the server did not say who this is").role(role)],
        Err(error) => {
            return vec![Check::warning("as_role", format!("not looked at: SQLSTATE {}", error.state)).role(role)];
        }
    };
    let class = rules.class(rules.class_of(&name));
    if superuser && class.partial() {
        let message = format!("{name} is a superuser: nothing in the database is hidden from it");
        found.push(Check::hole("as_role", message).role(role).sql(format!("alter role {} nosuperuser", quoted(&name))));
    }
    let mut tables: Vec<&Arc<ProtectedTable>> = rules.tables.values().collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    for table in tables {
        let Some(relation) = rules.schema.relation(table.oid) else { continue };
        let mut seen = Seen { client, rules, class, name: &name, relation, tried: 0, found: Vec::new() };
        seen.plain().await;
        seen.sealed().await;
        seen.statistics().await;
        seen.lens().await;
        if seen.found.iter().all(|check| check.severity == super::Severity::Ok) {
            let what = if seen.tried == 0 {
                "nothing of it is above its clearance".to_owned()
            } else {
                format!("{} tried past the proxy: nothing is visible above its clearance", plural(seen.tried, "column"))
            };
            seen.found.push(Check::ok("as_role", format!("{name}: {what}")));
        }
        found.extend(seen.found.into_iter().map(|check| check.table(&relation.qualified()).role(role)));
    }
    found
}

struct Seen<'a> {
    client: &'a Client,
    rules: &'a Rules,
    class: &'a ActorClass,
    name: &'a str,
    relation: &'a Relation,
    tried: usize,
    found: Vec<Check>,
}

impl Seen<'_> {
    fn sealed_at(&self, attnum: i16) -> bool {
        self.rules.sealed.contains_key(&(self.relation.oid, attnum))
    }

    /// Columns it must not read as they are: all of them where rows are hidden.
    fn hidden(&self) -> Vec<(i16, Arc<str>)> {
        // Whoever may act for several purposes has a lens for each, and the table for none.
        let several = self.class.acts.len() > 1 && self.views().next().is_some();
        let filtered = several || self.class.filtered.contains(&self.relation.oid);
        let hides = |attnum: i16| filtered || self.class.hidden.contains(&(self.relation.oid, attnum));
        let columns =
            self.relation.columns.iter().filter(|c| hides(c.attnum) && (filtered || !self.sealed_at(c.attnum)));
        columns.map(|column| (column.attnum, column.name.clone())).collect()
    }

    async fn plain(&mut self) {
        for (_, column) in self.hidden() {
            self.tried += 1;
            let sql = format!(
                "select count(*), count(v) from (select t.{} from {} as t limit {ROWS}) as t(v)",
                quoted(&column),
                relation_name(self.relation)
            );
            match ask(self.client, &sql, &[]).await {
                Err(error) if error.denied => {}
                Err(error) => self.unknown(&column, &error),
                Ok(rows) => {
                    let count = |at: usize| rows.first().map_or(0, |row| row.get::<_, i64>(at));
                    let message = format!(
                        "{} reads the table past the proxy: {} rows, {} of them with a value here",
                        self.name,
                        count(0),
                        count(1)
                    );
                    let name = relation_name(self.relation);
                    let role = quoted(self.name);
                    let check = Check::hole("as_role", message).column(&column);
                    self.found
                        .push(check.sql(format!("revoke select on {name} from {role}")).run("pgveil apply --lenses"));
                }
            }
        }
    }

    fn unknown(&mut self, column: &str, error: &Unanswered) {
        let message = format!("not looked at as {}: SQLSTATE {}", self.name, error.state);
        self.found.push(Check::warning("as_role", message).column(column));
    }

    /// Of sealed columns there are envelopes, whoever reads.
    async fn sealed(&mut self) {
        let columns: Vec<Arc<str>> =
            self.relation.columns.iter().filter(|c| self.sealed_at(c.attnum)).map(|c| c.name.clone()).collect();
        for column in columns {
            let sql = format!(
                "select count(*) filter (where substr(v, 1, 3) <> '\\xfed101') from \
                 (select t.{}::bytea from {} as t limit {ROWS}) as t(v)",
                quoted(&column),
                relation_name(self.relation)
            );
            self.tried += 1;
            match ask(self.client, &sql, &[]).await {
                Err(error) if error.denied => {}
                Err(error) => self.unknown(&column, &error),
                Ok(rows) => {
                    let plain = rows.first().map_or(0, |row| row.get::<_, i64>(0));
                    if plain > 0 {
                        let message = format!("{} reads {plain} cells past the proxy that are not sealed", self.name);
                        self.found.push(Check::hole("as_role", message).column(&column));
                    }
                }
            }
        }
    }

    /// The planner's statistics hold values.
    async fn statistics(&mut self) {
        let hidden: Vec<(i16, Arc<str>)> = self.hidden().into_iter().filter(|(at, _)| !self.sealed_at(*at)).collect();
        let names: Vec<&str> = hidden.iter().map(|(_, name)| &**name).collect();
        if names.is_empty() {
            return;
        }
        let asked = ask(self.client, STATISTICS, &[&&*self.relation.schema, &&*self.relation.name, &names]).await;
        let rows = match asked {
            Ok(rows) => rows,
            Err(error) => return self.unknown(names[0], &error),
        };
        let shown = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        if shown > 0 {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let message = format!("pg_stats shows {} the most common values of {}", self.name, few(&names));
            self.found.push(Check::hole("as_role", message).run("pgveil apply --lenses"));
        }
    }

    fn views(&self) -> impl Iterator<Item = &View> {
        let own = |view: &&View| *view.role == *self.class.role && view.base == self.relation.oid && !view.inserts;
        self.rules.views.iter().filter(own)
    }

    async fn lens(&mut self) {
        let views: Vec<View> = self.views().cloned().collect();
        for view in &views {
            self.through(view).await;
        }
    }

    async fn through(&mut self, view: &View) {
        let name = format!("{}.{}", quoted(&view.schema), quoted(&view.name));
        let sql = format!("select count(*) from (select from {name} limit {ROWS}) as t");
        match ask(self.client, &sql, &[]).await {
            Ok(rows) => {
                let rows = rows.first().map_or(0, |row| row.get::<_, i64>(0));
                if let Some(purpose) = view.purpose.as_ref().filter(|_| rows > 0) {
                    let message = format!("{}: its lens for {purpose} answers past the proxy", self.name);
                    return self.found.push(Check::hole("as_role", message).run("pgveil apply --lenses"));
                }
                let up_to = if rows == i64::from(ROWS) { "at least " } else { "" };
                let which = view.purpose.as_ref().map(|purpose| format!(" for {purpose}")).unwrap_or_default();
                let message = format!("{}: its lens{which} answers with {up_to}{rows} rows", self.name);
                self.found.push(Check::ok("as_role", message));
            }
            Err(error) => {
                let message = format!("{}: its lens does not answer (SQLSTATE {})", self.name, error.state);
                self.found.push(Check::warning("as_role", message).run("pgveil apply --lenses"));
            }
        }
    }
}
