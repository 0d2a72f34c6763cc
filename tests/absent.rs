//! A lens against tables in which hidden rows are physically absent and masked cells physically masked: the same random
//! queries must give the same rows, or fail alike. Nothing hidden is left there that an answer could depend on.
//!
//! `PGVEIL_TEST_QUERIES` says how many (`make filters`), `PGVEIL_TEST_SEED` from which seed.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{Dice, Site};

const POLICY: &str = r#"
version = 1
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "public" }
grp = { level = "public" }
nick = { level = "internal", mask = "partial:2:0" }
born = { level = "internal", mask = "year" }
score = { level = "internal", mask = "bucket:10" }
city = { level = "internal", mask = "fixed:somewhere" }
[tables."public.visits".columns]
id = { level = "public" }
person = { level = "public" }
day = { level = "public" }
kind = { level = "public" }
cost = { level = "internal", mask = "bucket:50" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "public"
[roles.analyst.rows]
"public.people" = "grp <> 3 and (score is null or score < 90)"
"public.visits" = "person in (select p.id from public.people as p where p.grp <> 3)"
"#;

const SCHEMA: &str = "
create table people (id int primary key, grp int, nick text, born date, score int, city text);
create table visits (id int primary key, person int, day date, kind text, cost numeric);
create table open (id int primary key, word text);
insert into people select n, n % 5, nullif('n' || n * 7919 % 311, 'n44'), date '1950-01-01' + n * 37, nullif(n * 31 % 101, 7),
  'city' || n % 9 from generate_series(1, 160) n;
insert into visits select n, 1 + n * 13 % 170, date '2024-01-01' + n % 90, 'k' || n % 4, n * 17 % 400 + 0.5
  from generate_series(1, 400) n;
insert into open select n, 'word' || n % 6 from generate_series(1, 12) n;
analyze;
";

/// The same names, and only what the analyst may see.
const ABSENT: &str = "
create schema absent;
create table absent.people as table pgveil_lens_analyst_public.people;
create table absent.visits as table pgveil_lens_analyst_public.visits;
create table absent.open as table public.open;
alter table absent.people add primary key (id);
alter table absent.visits add primary key (id);
alter table absent.open add primary key (id);
analyze;
grant usage on schema absent to app; grant select on all tables in schema absent to app;
";

/// What stands in FROM under that alias.
#[derive(Clone, Copy)]
enum Table {
    People,
    Visits,
    Open,
}

struct Random<'d> {
    dice: &'d mut Dice,
    /// Aliases in scope.
    scope: Vec<(String, Table)>,
    names: usize,
}

impl Random<'_> {
    fn of<'t>(&mut self, list: &[&'t str]) -> &'t str {
        self.dice.of(list)
    }

    fn number(&mut self, most: usize) -> String {
        self.dice.below(most).to_string()
    }

    fn table(&mut self) -> String {
        self.names += 1;
        let alias = format!("t{}", self.names);
        let (name, table) = match self.dice.below(5) {
            0 | 1 => ("people", Table::People),
            2 | 3 => ("visits", Table::Visits),
            _ => ("open", Table::Open),
        };
        self.scope.push((alias.clone(), table));
        format!("{name} as {alias}")
    }

    fn some(&mut self) -> (String, Table) {
        let at = self.dice.below(self.scope.len());
        self.scope[at].clone()
    }

    fn integer(&mut self, depth: usize) -> String {
        let (alias, table) = self.some();
        match self.dice.below(if depth == 0 { 4 } else { 8 }) {
            0 => self.number(100),
            1..=3 => match table {
                Table::People => format!("{alias}.{}", self.of(&["id", "grp", "score"])),
                Table::Visits => format!("{alias}.{}", self.of(&["id", "person"])),
                Table::Open => format!("{alias}.id"),
            },
            4 => format!("({} {} {})", self.integer(depth - 1), self.of(&["+", "-", "*"]), self.integer(depth - 1)),
            5 => format!("length({})", self.text(depth - 1)),
            6 => format!("coalesce({}, {})", self.integer(depth - 1), self.number(9)),
            _ => format!("case when {} then {} end", self.truth(depth - 1), self.integer(depth - 1)),
        }
    }

    fn text(&mut self, depth: usize) -> String {
        let (alias, table) = self.some();
        match self.dice.below(if depth == 0 { 3 } else { 6 }) {
            0..=2 => match table {
                Table::People => format!("{alias}.{}", self.of(&["nick", "city"])),
                Table::Visits => format!("{alias}.kind"),
                Table::Open => format!("{alias}.word"),
            },
            3 => format!("{}({})", self.of(&["upper", "reverse", "md5"]), self.text(depth - 1)),
            4 => format!("left({}, {})", self.text(depth - 1), self.number(4)),
            _ => format!("({} || {})", self.text(depth - 1), self.text(depth - 1)),
        }
    }

    fn date(&mut self) -> String {
        match self.some() {
            (alias, Table::People) => format!("{alias}.born"),
            (alias, Table::Visits) => format!("{alias}.day"),
            (_, Table::Open) => format!("date '19{}-01-01'", 50 + self.dice.below(40)),
        }
    }

    fn truth(&mut self, depth: usize) -> String {
        let compare = ["=", "<>", "<", ">=", "is distinct from"];
        match self.dice.below(if depth == 0 { 4 } else { 9 }) {
            0 => format!("{} {} {}", self.integer(0), self.of(&compare), self.integer(0)),
            1 => format!("{} {} {}", self.text(0), self.of(&compare), self.text(0)),
            2 => format!("{} like '{}%'", self.text(0), self.of(&["n1", "n", "k", "w", "%2"])),
            3 => format!("{} {} {}", self.date(), self.of(&compare), self.date()),
            4 => format!("({} {} {})", self.truth(depth - 1), self.of(&["and", "or"]), self.truth(depth - 1)),
            5 => format!("not ({})", self.truth(depth - 1)),
            6 => format!("{} is null", self.text(depth - 1)),
            7 => format!("{} in ({}, {}, {})", self.integer(0), self.number(50), self.number(50), self.number(50)),
            _ => {
                let outer = self.scope.len();
                let inner = self.table();
                let condition = self.truth(depth - 1);
                self.scope.truncate(outer);
                format!("exists (select from {inner} where {condition})")
            }
        }
    }

    fn from(&mut self) -> String {
        let mut from = self.table();
        for _ in 0..self.dice.below(3) {
            let kind = self.of(&["join", "left join", "full join", "right join"]);
            let (left, of) = self.some();
            let right = self.table();
            let (alias, table) = self.scope[self.scope.len() - 1].clone();
            // FULL JOIN takes only what it can merge or hash.
            let key = |table| if matches!(table, Table::Visits) { "person" } else { "id" };
            from = format!("{from} {kind} {right} on {left}.{} = {alias}.{}", key(of), key(table));
        }
        from
    }

    fn value(&mut self) -> String {
        match self.dice.below(3) {
            0 => self.integer(2),
            1 => self.text(2),
            _ => self.date(),
        }
    }

    /// One SELECT of so many columns, integers first, then texts, so that any two can be united.
    fn select(&mut self, columns: usize) -> String {
        let outer = self.scope.len();
        let from = self.from();
        let filter = if self.dice.below(3) > 0 { format!(" where {}", self.truth(2)) } else { String::new() };
        let list: Vec<String> =
            (0..columns).map(|at| if at % 2 == 0 { self.integer(2) } else { self.text(2) }).collect();
        let text = match self.dice.below(6) {
            0 => {
                let keys: Vec<String> = (1..=columns).map(|at| at.to_string()).collect();
                let having = if self.dice.below(2) == 0 { " having count(*) > 1" } else { "" };
                format!("select {} from {from}{filter} group by {}{having}", list.join(", "), keys.join(", "))
            }
            1 => format!("select distinct {} from {from}{filter}", list.join(", ")),
            _ => format!("select {} from {from}{filter}", list.join(", ")),
        };
        self.scope.truncate(outer);
        text
    }

    fn query(&mut self) -> String {
        self.scope.clear();
        match self.dice.below(8) {
            0 => {
                let operator = self.of(&["union", "union all", "except", "intersect"]);
                format!("{} {operator} {}", self.select(2), self.select(2))
            }
            1 => format!("with w as ({}) select * from w where exists (select from w)", self.select(3)),
            2 => {
                let from = self.from();
                let (by, what) = (self.integer(1), self.integer(1));
                let aggregate = self.of(&["sum", "min", "max", "count", "avg"]);
                format!(
                    "select {by}, {aggregate}({what}), string_agg(distinct {}, ',') from {from} group by 1",
                    self.text(1)
                )
            }
            3 => {
                let from = self.table();
                let (alias, _) = self.scope[0].clone();
                let (value, by) = (self.value(), self.integer(1));
                format!("select {alias}.id, {value}, rank() over (partition by {by} order by {alias}.id) from {from}")
            }
            4 => {
                // One expression that may fail, computed for each row or for none.
                let from = self.table();
                let may_fail = match self.dice.below(3) {
                    0 => format!("{} / ({})", self.integer(1), self.integer(1)),
                    1 => format!("({})::int", self.text(1)),
                    _ => format!("sqrt({})", self.integer(1)),
                };
                format!("select count({may_fail}) from {from}")
            }
            5 => {
                let inner = self.select(2);
                format!("select count(*), count(distinct s) from ({inner}) as s(i, t) join people as p on p.id = s.i")
            }
            6 => {
                let from = self.table();
                let (alias, _) = self.scope[0].clone();
                format!("select {alias} from {from} where {}", self.truth(2))
            }
            _ => {
                let columns = 1 + self.dice.below(4);
                let order: Vec<String> = (1..=columns).map(|at| at.to_string()).collect();
                format!("{} order by {} limit {}", self.select(columns), order.join(", "), self.number(30))
            }
        }
    }
}

/// Rows in an order of their own, or the SQLSTATE.
async fn outcome(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    let messages = client.simple_query(sql).await;
    let messages = messages.map_err(|error| error.as_db_error().expect("the server's").code().code().to_owned())?;
    let mut rows: Vec<String> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or("∅")).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        })
        .collect();
    rows.sort();
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lens_answers_as_if_the_hidden_were_not_there() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (count, seed) = (number("PGVEIL_TEST_QUERIES", 400), number("PGVEIL_TEST_SEED", 0));
    let mut site = Site::new("absent").schema(SCHEMA).policy(POLICY).prepare();
    site.sql("revoke insert, update, delete on people, visits from analyst; grant select on people to pgveil_lens");
    site.pgveil_ok(&["apply", "--lenses"]);
    site.sql(ABSENT);
    site.serve();
    let (analyst, absent) = (site.client("analyst").await, site.direct("app").await);
    absent.batch_execute("set search_path = absent").await.unwrap();
    assert_eq!(
        outcome(&analyst, "select count(*) from people").await,
        outcome(&absent, "select count(*) from people").await
    );
    let (mut answered, mut failed, mut longest) = (0, 0, 0);
    for at in 0..count {
        let mut dice = Dice(seed.wrapping_add(at));
        let sql = Random { dice: &mut dice, scope: Vec::new(), names: 0 }.query();
        let (ours, theirs) = (outcome(&analyst, &sql).await, outcome(&absent, &sql).await);
        assert_eq!(ours, theirs, "seed {}: {sql}", seed.wrapping_add(at));
        match ours {
            Ok(rows) => {
                answered += 1;
                longest = longest.max(rows.len());
            }
            Err(_) => failed += 1,
        }
    }
    println!(
        "{count} queries from seed {seed}: {answered} answered, {failed} failed alike, at most {longest} rows; 0 differ"
    );
    assert!(answered > count / 2 && failed > 0 && longest > 50, "the queries say something");
}
