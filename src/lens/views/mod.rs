//! Lenses in the database: their owner, their schemas and views, who may use them and who loses the tables; and the way
//! back.
//!
//! In: the views the policy wants, what is there. Out: statements, fewest that make the one the other. Never: a right
//! taken from a role that has no lens, a thing dropped that pgveil did not make, a key in a statement.

mod facts;
mod removal;

use std::collections::{BTreeSet, HashSet};

use facts::{Dependent, Direct, Privilege, Rights};
pub use facts::{LensFacts, read as read_lens_facts};
pub(super) use removal::remove;

use super::acting;
use super::ddl::{Statement, literal, name};
use crate::mask::sql as masks;
use crate::policy::lens::{OWNER, View};
use crate::policy::problem::Problem;
use crate::sql::schema::{Relation, Schema};
use crate::sql::{self, ident};

pub(super) fn qualified(schema: &str, relation: &str) -> String {
    format!("{}.{}", name(schema), name(relation))
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Lenses {
    /// In order.
    pub(super) statements: Vec<Statement>,
    /// What only somebody else can do first.
    pub(super) refused: Vec<Problem>,
    /// The owner role, for a superuser's script.
    pub(super) superuser: Vec<Statement>,
}

/// What makes the database show `views` to their roles, and nothing else.
pub(super) fn plan(views: &[View], schema: &Schema, facts: &LensFacts, control: &str) -> Lenses {
    let mut lenses = Lenses::default();
    if views.is_empty() && facts.views.is_empty() {
        return lenses;
    }
    let owner = owner(facts, control);
    if facts.owner_unfit {
        let hint = "drop it, or rename it: lenses belong to a role that nobody is and that is nobody else".to_owned();
        let message = format!("role {OWNER} may log in, has rights of its own or is a member of something");
        lenses.refused.push(Problem::whole("database", message, hint));
    } else if !owner.is_empty() && !facts.creates_roles {
        let hint = "have a superuser run what `pgveil apply --superuser` prints, then apply again".to_owned();
        let message = format!("the control account may not make role {OWNER}, which owns lenses");
        lenses.refused.push(Problem::whole("database", message, hint));
    }
    if !facts.creates_roles {
        lenses.superuser.clone_from(&owner);
    }
    lenses.statements.extend(owner);
    let by_purpose = views.iter().any(|view| view.purpose.is_some());
    if by_purpose && !facts.reads_statistics {
        let hint = "have a superuser run what `pgveil apply --superuser` prints, then apply again".to_owned();
        let message = "a role acts for several purposes, and the control account may not see when sessions began";
        lenses.refused.push(Problem::whole("database", message, hint));
        lenses.superuser.push(acting::statistics(&name(control)));
    }
    lenses.statements.extend(foundation(facts, by_purpose));
    let mut build = Build { schema, views, facts, statements: &mut lenses.statements, refused: &mut lenses.refused };
    build.owners_rights(views);
    build.schemas(views);
    views.iter().for_each(|view| build.view(view));
    build.obsolete(views);
    build.revoke(views);
    build.give_back(views);
    lenses
}

/// The role that owns every lens.
fn owner(facts: &LensFacts, control: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    if !facts.owner {
        statements
            .push(Statement::new("who owns lenses: nobody logs in as it", format!("create role {OWNER} nologin")));
    }
    if !facts.member {
        let sql = format!("grant {OWNER} to {}", name(control));
        statements.push(Statement::new("pgveil makes views in its name", sql));
    }
    statements
}

/// Functions, the key of keyed masks, what sessions act for, and what is needed to undo.
fn foundation(facts: &LensFacts, by_purpose: bool) -> Vec<Statement> {
    let mut statements = Vec::new();
    let functions: Vec<Statement> = masks::functions().into_iter().map(Statement::from).collect();
    let mark = super::mark(&functions);
    if facts.functions != mark {
        statements.extend(functions);
        let sql = format!("comment on schema pgveil is {}", literal(&mark));
        statements.push(Statement::new("which masks are installed", sql));
    }
    if !facts.key {
        statements.extend(masks::key_table().into_iter().map(Statement::from));
    }
    let there = [facts.acting.0, facts.acting.1];
    let missing = acting::definitions().into_iter().zip(there).filter(|(_, there)| by_purpose && !there);
    statements.extend(missing.map(|(definition, _)| definition));
    if !facts.undo {
        statements.push(Statement::new(
            "what `pgveil apply --remove` gives back",
            "create table pgveil.lens_undo (id int8 generated always as identity primary key, \
             statement text not null, taken_at timestamptz not null default pg_catalog.now())",
        ));
    }
    statements
}

struct Build<'a> {
    schema: &'a Schema,
    views: &'a [View],
    facts: &'a LensFacts,
    statements: &'a mut Vec<Statement>,
    refused: &'a mut Vec<Problem>,
}

impl Build<'_> {
    fn add(&mut self, why: impl Into<String>, sql: impl Into<String>) {
        self.statements.push(Statement::new(why, sql));
    }

    fn table(&self, oid: u32) -> String {
        self.schema.relation(oid).map(|relation| super::ddl::relation(relation)).unwrap_or_default()
    }

    /// What others have made of a lens that is to go.
    fn in_the_way(&mut self, schema: &str, view: &str) {
        let own = |dependent: &&Dependent| dependent.lens.0 == schema && dependent.lens.1 == view;
        for dependent in self.facts.dependents.iter().filter(own) {
            let Dependent { view: made, owner, temporary, .. } = dependent;
            let message = format!("{made}, a view of {owner}, is made of the lens {schema}.{view}, which changes");
            let hint = match temporary {
                true => format!("it is temporary: end the session of {owner} that made it"),
                false => format!("drop view {made}; and let {owner} make it again afterwards"),
            };
            self.refused.push(Problem::whole("database", message, hint));
        }
    }

    /// What the grantee of a view may do with it: what it may do with the table, or with any lens of it since it lost it.
    fn wanted(&self, view: &View) -> Rights {
        let key = (view.grantee.to_string(), view.base);
        let mut rights = self.facts.rights.get(&key).cloned().unwrap_or_default();
        let lenses = self.schema.lens_views.keys().filter_map(|oid| self.schema.relation(*oid));
        for lens in lenses.filter(|lens| self.stands_for(lens, view)) {
            let of_lens = (view.grantee.to_string(), lens.schema.to_string(), lens.name.to_string());
            let Some(kept) = self.facts.view_rights.get(&of_lens) else { continue };
            rights.whole.extend(&kept.whole);
            for (privilege, columns) in &kept.columns {
                rights.columns.entry(*privilege).or_default().extend(columns.iter().cloned());
            }
        }
        rights
    }

    /// A lens, wanted or left over, of the same table as the view. What it reads may also stand in a condition.
    fn stands_for(&self, lens: &Relation, view: &View) -> bool {
        let same = |other: &&View| other.schema == lens.schema && other.name == lens.name;
        match self.views.iter().find(same) {
            Some(wanted) => wanted.base == view.base,
            None => {
                let of_schema = |schema: &str| lens.schema.trim_end_matches("_insert").ends_with(schema);
                lens.name == view.name && lens.reads.contains(&view.base) && of_schema(&view.base_schema)
            }
        }
    }

    /// What of that is given on this view, where one is for INSERT and another for the rest.
    fn given(&self, view: &View) -> Rights {
        let mut rights = self.wanted(view);
        let inserts = rights.holds(Privilege::Insert);
        let here = |privilege: &Privilege| match (view.conditional(), view.inserts) {
            (false, _) => true,
            (true, false) => *privilege != Privilege::Insert,
            // RETURNING reads.
            (true, true) => inserts && matches!(privilege, Privilege::Insert | Privilege::Select),
        };
        rights.whole.retain(here);
        rights.columns.retain(|privilege, _| here(privilege));
        rights
    }

    /// The owner reads every table behind a view, and writes what somebody writes through one.
    fn owners_rights(&mut self, views: &[View]) {
        let schemas: BTreeSet<&str> = views.iter().map(|view| &*view.base_schema).collect();
        for schema in schemas {
            if !self.facts.usage.contains(&(OWNER.to_owned(), schema.to_owned())) {
                let sql = format!("grant usage on schema {} to {OWNER}", name(schema));
                self.add("lenses read tables there", sql);
            }
        }
        let tables: BTreeSet<u32> = views.iter().map(|view| view.base).collect();
        for table in tables {
            let mut wanted: BTreeSet<Privilege> = BTreeSet::from([Privilege::Select]);
            for view in views.iter().filter(|view| view.base == table) {
                let rights = self.wanted(view);
                wanted.extend(rights.whole.iter().chain(rights.columns.keys()));
            }
            let held = self.facts.rights.get(&(OWNER.to_owned(), table)).map(|rights| rights.whole.clone());
            let missing: Vec<&str> =
                wanted.difference(&held.unwrap_or_default()).map(|privilege| privilege.word()).collect();
            if !missing.is_empty() {
                let sql = format!("grant {} on {} to {OWNER}", missing.join(", "), self.table(table));
                self.add("lenses are made of it", sql);
            }
        }
    }

    fn schemas(&mut self, views: &[View]) {
        let whose: BTreeSet<(&str, String, &str)> =
            views.iter().map(|view| (&*view.schema, view.whose(), &*view.base_schema)).collect();
        let whose: Vec<_> = whose.into_iter().collect();
        for pair in whose.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let (schema, one, other) = (pair[0].0, &pair[0].1, &pair[1].1);
            let message = format!("the lenses of {one} and {other} would both be schema {schema}");
            let hint = "give one of them another name, and the PostgreSQL role by member_of".to_owned();
            self.refused.push(Problem::whole("database", message, hint));
        }
        let schemas: BTreeSet<(&str, &str)> = views.iter().map(|view| (&*view.schema, &*view.grantee)).collect();
        for (schema, grantee) in schemas {
            match self.facts.schemas.get(schema) {
                Some(true) => {}
                Some(false) => {
                    let hint = format!("rename it: names that begin like that belong to {OWNER}");
                    let message = format!("schema {schema} exists and is no lens");
                    self.refused.push(Problem::whole("database", message, hint));
                }
                None => self.add(
                    format!("what {grantee} sees"),
                    format!("create schema {} authorization {OWNER}", name(schema)),
                ),
            }
            if !self.facts.usage.contains(&(grantee.to_owned(), schema.to_owned())) {
                let sql = format!("grant usage on schema {} to {}", name(schema), name(grantee));
                self.add("… and may use", sql);
            }
        }
    }

    fn view(&mut self, view: &View) {
        let relation = qualified(&view.schema, &view.name);
        let there = self.facts.views.get(&(view.schema.to_string(), view.name.to_string()));
        let table = self.schema.relation(view.base).map(|base| base.qualified()).unwrap_or_default();
        let made_anew = there.is_none_or(|mark| **mark != *view.mark);
        if made_anew {
            if there.is_some() {
                self.in_the_way(&view.schema, &view.name);
                self.add(format!("the lens of {table} changes, {}", view.whose()), format!("drop view {relation}"));
            }
            let sql = format!(
                "set local role {OWNER};\n{};\ncomment on view {relation} is {};\nreset role",
                view.create(),
                literal(&view.mark)
            );
            self.add(format!("what is seen of {table}, {}", view.whose()), sql);
        }
        self.learns(view, &self.wanted(view), &table);
        let wanted = self.given(view);
        let key = (view.grantee.to_string(), view.schema.to_string(), view.name.to_string());
        let held = self.facts.view_rights.get(&key).filter(|_| !made_anew).cloned().unwrap_or_default();
        let (held, surplus) = (&held, held.whole.iter().chain(held.columns.keys()));
        let surplus: BTreeSet<Privilege> = surplus.filter(|p| !wanted.holds(**p)).copied().collect();
        for privilege in surplus {
            let sql = format!("revoke {} on {relation} from {}", privilege.word(), name(&view.grantee));
            self.add("not by this view", sql);
        }
        for privilege in Privilege::ALL {
            if held.whole.contains(&privilege) {
                continue;
            }
            let to = format!("on {relation} to {}", name(&view.grantee));
            if wanted.whole.contains(&privilege) {
                self.add("as with the table", format!("grant {} {to}", privilege.word()));
                continue;
            }
            let Some(columns) = wanted.columns.get(&privilege) else { continue };
            let had = held.columns.get(&privilege);
            let missing: Vec<String> = view
                .columns
                .iter()
                .filter(|column| columns.contains(&*column.name) && had.is_none_or(|had| !had.contains(&*column.name)))
                .map(|column| name(&column.name))
                .collect();
            if !missing.is_empty() {
                let sql = format!("grant {} ({}) {to}", privilege.word(), missing.join(", "));
                self.add("as with the table's columns", sql);
            }
        }
    }

    /// Whoever writes learns from unique and foreign keys which rows there are.
    fn learns(&mut self, view: &View, rights: &Rights, table: &str) {
        let held: Vec<&str> = Privilege::ALL
            .into_iter()
            .filter(|p| *p != Privilege::Select && (rights.whole.contains(p) || rights.columns.contains_key(p)))
            .map(Privilege::word)
            .collect();
        if view.filtered && !view.inserts && !view.accepts_existence && !held.is_empty() {
            let (held, role) = (held.join(", "), name(&view.grantee));
            let message = format!(
                "{} may not reach every row of {table}, and by {held} it could learn which there are",
                view.grantee
            );
            let on = self.table(view.base);
            let hint = format!(
                "revoke {held} on {on} from {role}; or accept_leakage = [\"existence\"] in [roles.{}]",
                view.role
            );
            self.refused.push(Problem::whole("database", message, hint));
        }
    }

    /// Views that the policy no longer has, and schemas that are empty then.
    fn obsolete(&mut self, views: &[View]) {
        let wanted: HashSet<(&str, &str)> = views.iter().map(|view| (&*view.schema, &*view.name)).collect();
        let mut left: Vec<&(String, String)> =
            self.facts.views.keys().filter(|(schema, view)| !wanted.contains(&(schema, view))).collect();
        left.sort();
        for (schema, view) in left {
            self.in_the_way(schema, view);
            self.add("no longer in the policy", format!("drop view {}", qualified(schema, view)));
        }
        let used: HashSet<&str> = views.iter().map(|view| &*view.schema).collect();
        let mut empty: Vec<&String> = self
            .facts
            .schemas
            .iter()
            .filter(|(schema, ours)| **ours && !used.contains(schema.as_str()))
            .map(|(schema, _)| schema)
            .collect();
        empty.sort();
        for schema in empty {
            self.add("nobody sees through it", format!("drop schema {}", name(schema)));
        }
    }

    /// Whoever has no lens of a table any more has the table again.
    fn give_back(&mut self, views: &[View]) {
        let mut given = BTreeSet::new();
        for undo in self.facts.undo_statements.iter().rev() {
            let Some((table, role)) = undone(undo, self.schema) else { continue };
            let held = views.iter().any(|view| view.base == table && *view.grantee == *role);
            if !held && given.insert(undo) {
                self.add(format!("{role} has no lens of it any more"), undo.clone());
                let sql = format!("delete from pgveil.lens_undo where statement = {}", literal(undo));
                self.add("… and nothing is left to give back", sql);
            }
        }
    }

    /// The tables are taken from whoever has a lens for them; what was taken is written down first.
    fn revoke(&mut self, views: &[View]) {
        let pairs: BTreeSet<(&str, u32)> = views.iter().map(|view| (&*view.grantee, view.base)).collect();
        for (role, table) in pairs {
            let of_pair = |direct: &&Direct| direct.role == role && direct.relation == table;
            let direct: Vec<&Direct> = self.facts.direct.iter().filter(of_pair).collect();
            if direct.is_empty() {
                continue;
            }
            let on = self.table(table);
            for right in &direct {
                let columns = right.column.as_ref().map(|column| format!(" ({})", name(column))).unwrap_or_default();
                let option = if right.grantable { " with grant option" } else { "" };
                let undo = format!("grant {}{columns} on {on} to {}{option}", right.privilege, name(role));
                let sql = format!("insert into pgveil.lens_undo (statement) values ({})", literal(&undo));
                self.add("what to give back", sql);
            }
            self.add(
                format!("{role} has its lens in place of the table"),
                format!("revoke all privileges on {on} from {}", name(role)),
            );
        }
    }
}

/// The table and role of a statement that gives a right back; `None` where one of them is no more.
pub(super) fn undone(statement: &str, schema: &Schema) -> Option<(u32, String)> {
    let tokens = sql::lex(statement, usize::MAX).ok()?;
    let end = match tokens.last()?.is_word(statement, "option") {
        true => tokens.len().checked_sub(3)?,
        false => tokens.len(),
    };
    // … on "schema"."table" to "role"
    let [on, base, _, table, to, role] = tokens.get(end.checked_sub(6)?..end)? else { return None };
    if !on.is_word(statement, "on") || !to.is_word(statement, "to") {
        return None;
    }
    let table = schema.named(&ident(statement, base), &ident(statement, table))?;
    let role = ident(statement, role).into_owned();
    schema.roles.contains_key(&role).then_some((table.oid, role))
}
