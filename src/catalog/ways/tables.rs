//! Ways that lead through relations: rights on the table and its family, ownership, views and rules over it, code that
//! runs on its rows, foreign keys that point at it, and the lens itself.
//!
//! In: the catalog's rows about those relations, for all masked roles at once. Out: ways. Never: a view of the role's
//! own lens, nor what is built on one; a right of a relation's owner, whose ownership is the way.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio_postgres::{Client, Row};

use super::roles::{Actor, Cast, Right};
use super::{Found, Hidden, WayKind, ask, queries};
use crate::error::Result;
use crate::sql::name::quoted as name;

/// pgveil's own tables are part of every lens: which purpose a session has stands there.
pub(super) const OWN_SCHEMA: &str = "pgveil";

/// A relation that is or shows a protected table.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) schema: String,
    name: String,
    kind: String,
    pub(super) owner: u32,
    invoker: bool,
    columns: Vec<String>,
}

impl Relation {
    /// For people.
    pub(super) fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// For SQL.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", name(&self.schema), name(&self.name))
    }

    fn column(&self, attnum: i16) -> &str {
        let at = usize::try_from(attnum).unwrap_or(0);
        self.columns.get(at.wrapping_sub(1)).map_or("?", |column| column)
    }

    pub(super) fn is(&self, schema: &str, name: &str) -> bool {
        self.schema == schema && self.name == name
    }
}

/// One entry of an ACL; column 0 is the whole table.
#[derive(Debug)]
struct Entry {
    column: i16,
    privilege: String,
    grantee: u32,
    grantor: u32,
    grantable: bool,
}

/// A rule of `dependent` that uses another relation.
#[derive(Debug)]
struct Use {
    dependent: u32,
    /// pg_rewrite's: `1` SELECT, `2` UPDATE, `3` INSERT, `4` DELETE.
    event: String,
    rule: String,
    columns: Vec<i16>,
    whole: bool,
}

/// A partition, child, parent or the table itself, and which of its columns are which of the base's.
#[derive(Debug)]
struct Kin {
    oid: u32,
    columns: HashMap<i16, i16>,
}

/// What is hidden of one relation from one role.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// The policy's table.
    base: u32,
    /// Rows are, and with them every column.
    pub(super) all: bool,
    columns: BTreeSet<i16>,
}

impl Guard {
    fn hides(&self, column: i16) -> bool {
        self.all || self.columns.contains(&column)
    }

    fn shown_by(&self, by: &Use) -> bool {
        self.all || by.whole || by.columns.iter().any(|column| self.columns.contains(column))
    }
}

/// What the catalog says, by relation.
#[derive(Debug)]
pub(super) struct Tables {
    relations: HashMap<u32, Relation>,
    family: HashMap<u32, Vec<Kin>>,
    rights: HashMap<u32, Vec<Entry>>,
    uses: HashMap<u32, Vec<Use>>,
    /// By the referenced: referencing, constraint, referenced columns.
    keys: HashMap<u32, Vec<(u32, String, Vec<i16>)>>,
    policies: HashMap<u32, Vec<String>>,
    /// By relation: function's owner, function, what runs it.
    code: HashMap<u32, Vec<(u32, String, String)>>,
    /// By relation: column, domain's owner, domain.
    types: HashMap<u32, Vec<(i16, u32, String)>>,
    lens: BTreeMap<String, Vec<u32>>,
    /// By actor; those from whom the same is hidden share it.
    guards: HashMap<usize, Arc<Guards>>,
}

/// By relation.
pub(super) type Guards = BTreeMap<u32, Guard>;

fn grouped<T>(rows: &[Row], of: impl Fn(&Row) -> T) -> HashMap<u32, Vec<T>> {
    let mut out: HashMap<u32, Vec<T>> = HashMap::new();
    for row in rows {
        out.entry(row.get(0)).or_default().push(of(row));
    }
    out
}

impl Tables {
    /// Reads everything about the actors' tables.
    pub(super) async fn read(client: &Client, cast: &Cast<'_>) -> Result<Self> {
        let masked = || cast.actors.iter().map(|actor| actor.masked);
        let bases: BTreeSet<u32> = masked().flat_map(|m| m.hidden.iter().map(|h| h.relation)).collect();
        let bases: Vec<u32> = bases.into_iter().collect();
        let family = grouped(&ask(client, queries::FAMILY, &[&bases]).await?, |row| {
            let (of_base, own): (Vec<i16>, Vec<i16>) = (row.get(2), row.get(3));
            Kin { oid: row.get(1), columns: of_base.into_iter().zip(own).collect() }
        });
        let kin: BTreeSet<u32> = family.values().flatten().map(|kin| kin.oid).collect();
        let kin: Vec<u32> = kin.into_iter().collect();
        let uses = grouped(&ask(client, queries::DEPENDENTS, &[&kin]).await?, |row| Use {
            dependent: row.get(1),
            event: row.get(2),
            rule: row.get(3),
            columns: row.get(4),
            whole: row.get(5),
        });
        let keys: Vec<Row> = ask(client, queries::FOREIGN_KEYS, &[&kin]).await?;
        let schemas: BTreeSet<&str> = masked().flat_map(|m| m.lens_schemas.iter().map(String::as_str)).collect();
        let schemas: Vec<&str> = schemas.into_iter().chain([OWN_SCHEMA]).collect();
        let views: Vec<u32> = ask(client, queries::IN_SCHEMAS, &[&schemas]).await?.iter().map(|r| r.get(0)).collect();
        let mut all: BTreeSet<u32> = kin.iter().chain(&views).copied().collect();
        all.extend(uses.values().flatten().map(|by| by.dependent));
        all.extend(keys.iter().map(|row| row.get::<_, u32>(0)));
        all.extend(ask(client, queries::FOREIGN_TABLES, &[&cast.holders]).await?.iter().map(|r| r.get::<_, u32>(0)));
        let all: Vec<u32> = all.into_iter().collect();
        let mut tables = Self {
            relations: HashMap::new(),
            family,
            rights: grouped(&ask(client, queries::RIGHTS, &[&all, &cast.holders]).await?, entry),
            uses,
            keys: HashMap::new(),
            policies: grouped(&ask(client, queries::POLICIES, &[&kin]).await?, |row| row.get(1)),
            code: grouped(&ask(client, queries::CODE, &[&all, &cast.holders]).await?, |row| {
                (row.get(1), row.get(2), row.get(3))
            }),
            types: grouped(&ask(client, queries::TYPES, &[&kin, &cast.holders]).await?, |row| {
                (row.get(1), row.get(2), row.get(3))
            }),
            lens: BTreeMap::new(),
            guards: HashMap::new(),
        };
        let mut shared: HashMap<&[Hidden], Arc<Guards>> = HashMap::new();
        for actor in &cast.actors {
            let hidden = &*actor.masked.hidden;
            let guards = shared.entry(hidden).or_insert_with(|| Arc::new(guards(hidden, &tables.family)));
            tables.guards.insert(actor.index, Arc::clone(guards));
        }
        for row in ask(client, queries::RELATIONS, &[&all]).await? {
            tables.relations.insert(row.get(0), relation(&row));
        }
        for row in keys {
            tables.keys.entry(row.get(1)).or_default().push((row.get(0), row.get(2), row.get(3)));
        }
        for oid in views {
            if let Some(view) = tables.relations.get(&oid) {
                tables.lens.entry(view.schema.clone()).or_default().push(oid);
            }
        }
        Ok(tables)
    }

    /// Every foreign table that somebody may read, and whatever else is known here.
    pub(super) fn foreign(&self) -> impl Iterator<Item = (u32, &Relation)> {
        self.relations.iter().filter(|(_, relation)| relation.kind == "f").map(|(oid, relation)| (*oid, relation))
    }

    /// Relations with something hidden from the actor.
    pub(super) fn guards(&self, actor: &Actor<'_>) -> Arc<Guards> {
        self.guards.get(&actor.index).cloned().unwrap_or_default()
    }

    /// The relation, where it still exists.
    pub(super) fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    /// All ways of all actors through relations.
    pub(super) fn judge(&self, cast: &Cast<'_>, found: &mut Found) {
        for actor in &cast.actors {
            let guards = self.guards(actor);
            for (oid, guard) in &*guards {
                let Some(relation) = self.relations.get(oid) else { continue };
                let at = At { tables: self, cast, actor, oid: *oid, relation };
                at.owner(guard, found);
                at.rights(guard, found);
                at.policies(found);
                at.code(found);
                at.types(guard, found);
                at.existence(guard, &guards, found);
            }
            self.dependents(cast, actor, &guards, found);
            self.lens(cast, actor, found);
        }
    }

    /// Breadth first over views; the role's own lens ends a branch, for what it shows may be shown. A `security_invoker`
    /// view reads with the current user's rights, also when a definer's view reads it, and only a materialised view has
    /// run it as somebody else.
    fn dependents(&self, cast: &Cast<'_>, actor: &Actor<'_>, guards: &Guards, found: &mut Found) {
        let used = |(oid, guard): (&u32, &Guard)| self.uses.contains_key(oid).then(|| (*oid, guard.clone(), false));
        let mut queue: VecDeque<(u32, Guard, bool)> = guards.iter().filter_map(used).collect();
        // By view: whether every path to it so far leads through an invoker's.
        let mut seen: BTreeMap<u32, bool> = BTreeMap::new();
        while let Some((from, guard, invoker)) = queue.pop_front() {
            for by in self.uses.get(&from).into_iter().flatten().filter(|by| guard.shown_by(by)) {
                let Some(relation) = self.relations.get(&by.dependent) else { continue };
                if guards.contains_key(&by.dependent) || is_lens(cast, actor, relation) {
                    continue;
                }
                let at = At { tables: self, cast, actor, oid: by.dependent, relation };
                let base = self.relations.get(&guard.base).map(Relation::shown).unwrap_or_default();
                if by.event != "1" {
                    if !invoker {
                        at.rule(by, &base, found);
                    }
                    continue;
                }
                let invoker = relation.kind != "m" && (invoker || relation.invoker);
                if seen.get(&by.dependent).is_none_or(|before| *before && !invoker) {
                    seen.insert(by.dependent, invoker);
                    at.view(&base, invoker, found);
                    let shown = Guard { base: guard.base, all: true, columns: BTreeSet::new() };
                    queue.push_back((by.dependent, shown, invoker));
                }
            }
        }
    }

    /// The lens's own relations: nobody masked owns them, hangs triggers on them or owns code they run.
    fn lens(&self, cast: &Cast<'_>, actor: &Actor<'_>, found: &mut Found) {
        let mut owners: BTreeSet<u32> =
            actor.holders().filter(|oid| cast.name(*oid) == actor.masked.lens_owner).collect();
        let views = actor.masked.lens_schemas.iter().filter_map(|schema| self.lens.get(schema)).flatten();
        for (oid, relation) in views.filter_map(|oid| Some((*oid, self.relations.get(oid)?))) {
            owners.extend(Some(relation.owner).filter(|owner| actor.reaches(*owner)));
            let at = At { tables: self, cast, actor, oid, relation };
            at.of_lens(found);
            at.code(found);
        }
        let tables = self.lens.get(OWN_SCHEMA).into_iter().flatten();
        for (oid, relation) in tables.filter_map(|oid| Some((*oid, self.relations.get(oid)?))) {
            At { tables: self, cast, actor, oid, relation }.of_pgveil(found);
        }
        for owner in owners {
            let what = match cast.chain(actor, owner) {
                Some(chain) => {
                    format!("is a member of {}, who owns the lens and reads the base ({chain})", cast.name(owner))
                }
                None => "owns its own lens, and can change it".to_owned(),
            };
            found.add(actor, WayKind::LensOwner, what, cast.part(actor, owner, || None));
        }
    }
}

/// A view of the actor's own lens.
fn is_lens(cast: &Cast<'_>, actor: &Actor<'_>, relation: &Relation) -> bool {
    actor.masked.lens_schemas.contains(&relation.schema) && cast.name(relation.owner) == actor.masked.lens_owner
}

fn guards(hidden: &[Hidden], family: &HashMap<u32, Vec<Kin>>) -> Guards {
    let mut guards = Guards::new();
    for hidden in hidden {
        for kin in family.get(&hidden.relation).into_iter().flatten() {
            let all = hidden.columns.is_empty();
            let columns: Vec<i16> = hidden.columns.iter().filter_map(|c| kin.columns.get(c)).copied().collect();
            // A parent may lack every column that is hidden.
            if all || !columns.is_empty() {
                let new = || Guard { base: hidden.relation, ..Guard::default() };
                let guard = guards.entry(kin.oid).or_insert_with(new);
                guard.all |= all;
                guard.columns.extend(columns);
            }
        }
    }
    guards
}

fn entry(row: &Row) -> Entry {
    Entry { column: row.get(1), privilege: row.get(2), grantee: row.get(3), grantor: row.get(4), grantable: row.get(5) }
}

fn relation(row: &Row) -> Relation {
    Relation {
        schema: row.get(1),
        name: row.get(2),
        kind: row.get(3),
        owner: row.get(4),
        invoker: row.get(5),
        columns: row.get(6),
    }
}

/// One relation, looked at for one actor.
struct At<'a> {
    tables: &'a Tables,
    cast: &'a Cast<'a>,
    actor: &'a Actor<'a>,
    oid: u32,
    relation: &'a Relation,
}

/// Rights of one kind, on the table or on columns, that one grantee has from one grantor: by privilege, its columns.
type Bundle = BTreeMap<String, Vec<String>>;

impl At<'_> {
    fn named(&self, guard: &Guard) -> String {
        match self.tables.relations.get(&guard.base).filter(|_| guard.base != self.oid) {
            Some(base) => format!("{} (which shares rows with {})", self.relation.shown(), base.shown()),
            None => self.relation.shown(),
        }
    }

    fn owner(&self, guard: &Guard, found: &mut Found) {
        let owner = self.relation.owner;
        if !self.actor.reaches(owner) {
            return;
        }
        let what = format!("has all rights on {}, {}", self.named(guard), self.cast.owned(self.actor, owner));
        // A part of the table should be its owner's; whose the table should be, only a person knows.
        let base = self.tables.relations.get(&guard.base).filter(|base| !self.actor.reaches(base.owner));
        let own = || base.map(|b| format!("alter table {} owner to {}", self.relation.sql(), self.cast.sql(b.owner)));
        found.add(self.actor, WayKind::TableOwner, what, self.cast.part(self.actor, owner, own));
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.tables.rights.get(&self.oid).into_iter().flatten();
        entries.filter(|entry| self.actor.reaches(entry.grantee))
    }

    fn rights(&self, guard: &Guard, found: &mut Found) {
        let kind = |entry: &Entry| {
            let table = entry.column == 0;
            if !table && !guard.hides(entry.column) {
                return None;
            }
            Some(match &*entry.privilege {
                "SELECT" if table => WayKind::Read,
                "SELECT" => WayKind::ReadColumn,
                "REFERENCES" => WayKind::References,
                "TRIGGER" => WayKind::Trigger,
                "MAINTAIN" if guard.all => WayKind::Maintain,
                "MAINTAIN" => return None,
                _ => WayKind::Write,
            })
        };
        let named = self.named(guard);
        self.bundles(kind, |_, privileges| format!("has {privileges} on {named}"), found);
    }

    /// One way for each kind, grantee and grantor, with everything it is made of.
    fn bundles(
        &self,
        kind: impl Fn(&Entry) -> Option<WayKind>,
        says: impl Fn(WayKind, &str) -> String,
        found: &mut Found,
    ) {
        let mut bundles: BTreeMap<(WayKind, u32, u32, bool, bool), Bundle> = BTreeMap::new();
        for entry in self.entries() {
            let Some(kind) = kind(entry) else { continue };
            let key = (kind, entry.grantee, entry.grantor, entry.grantable, entry.column == 0);
            let columns = bundles.entry(key).or_default().entry(entry.privilege.to_lowercase()).or_default();
            columns.extend((entry.column != 0).then(|| self.relation.column(entry.column).to_owned()));
        }
        for ((kind, grantee, grantor, grantable, _), bundle) in bundles {
            let part = |quote: fn(&str) -> String, sql: bool| {
                let one = |(privilege, columns): (&String, &Vec<String>)| {
                    let word = if sql { privilege.clone() } else { privilege.to_uppercase() };
                    let columns: Vec<String> = columns.iter().map(|column| quote(column)).collect();
                    if columns.is_empty() { word } else { format!("{word} ({})", columns.join(", ")) }
                };
                bundle.iter().map(one).collect::<Vec<_>>().join(", ")
            };
            let privileges = part(str::to_owned, false);
            let what = format!("{}, {}", says(kind, &privileges), self.cast.granted(self.actor, grantee));
            let (sql, on) = (part(name, true), self.relation.sql());
            let right = Right { what: &sql, on: &on, grantee, grantor, owner: self.relation.owner, grantable };
            found.add(self.actor, kind, what, self.cast.take(self.actor, &right));
        }
    }

    fn policies(&self, found: &mut Found) {
        for policy in self.tables.policies.get(&self.oid).into_iter().flatten() {
            let what = format!(
                "reads {} through a lens whose owner is not under its policy {policy}, which is not TO PUBLIC",
                self.relation.shown()
            );
            found.add(self.actor, WayKind::RowPolicy, what, (None, false));
        }
    }

    fn code(&self, found: &mut Found) {
        for (owner, function, user) in self.tables.code.get(&self.oid).into_iter().flatten() {
            if self.actor.reaches(*owner) {
                let owned = self.cast.owned(self.actor, *owner);
                let what = format!(
                    "can replace {function}, {owned}, which {user} of {} runs for everybody",
                    self.relation.shown()
                );
                found.add(self.actor, WayKind::FunctionOwner, what, self.cast.part(self.actor, *owner, || None));
            }
        }
    }

    fn types(&self, guard: &Guard, found: &mut Found) {
        let types = self.tables.types.get(&self.oid).into_iter().flatten();
        for (column, owner, domain) in
            types.filter(|(column, owner, _)| guard.hides(*column) && self.actor.reaches(*owner))
        {
            let what = format!(
                "can have a CHECK computed over every value of {}.{}, by the domain {domain}, {}",
                self.relation.shown(),
                self.relation.column(*column),
                self.cast.owned(self.actor, *owner)
            );
            let to = Some(self.relation.owner).filter(|to| !self.actor.reaches(*to));
            let own = || to.map(|to| format!("alter domain {domain} owner to {}", self.cast.sql(to)));
            found.add(self.actor, WayKind::TypeOwner, what, self.cast.part(self.actor, *owner, own));
        }
    }

    /// Foreign keys of tables the role writes: itself, or where those are protected too, through its lens.
    fn existence(&self, guard: &Guard, guards: &Guards, found: &mut Found) {
        for (from, constraint, columns) in self.tables.keys.get(&self.oid).into_iter().flatten() {
            if !guard.all && !columns.iter().any(|column| guard.hides(*column)) {
                continue;
            }
            let written: Vec<u32> = if guards.contains_key(from) {
                self.tables.uses.get(from).into_iter().flatten().map(|by| by.dependent).collect()
            } else {
                vec![*from]
            };
            for oid in written {
                let Some(relation) = self.tables.relations.get(&oid) else { continue };
                let at = At { oid, relation, ..*self };
                if oid != *from && !is_lens(self.cast, self.actor, relation) {
                    continue;
                }
                let writes = at.entries().find(|entry| matches!(&*entry.privilege, "INSERT" | "UPDATE"));
                let how = match writes {
                    Some(entry) => format!("{} {}", entry.privilege, self.cast.granted(self.actor, entry.grantee)),
                    None if oid == *from && self.actor.reaches(relation.owner) => {
                        self.cast.owned(self.actor, relation.owner)
                    }
                    None => continue,
                };
                let what = format!(
                    "learns what {} holds by writing {}, whose foreign key {constraint} points there: {how}",
                    self.relation.shown(),
                    relation.shown()
                );
                found.add(self.actor, WayKind::Existence, what, (None, false));
            }
        }
    }

    fn view(&self, base: &str, invoker: bool, found: &mut Found) {
        let stored = self.relation.kind == "m";
        let word = if stored { "materialised view" } else { "view" };
        let owner = self.relation.owner;
        if self.actor.reaches(owner) {
            let owned = self.cast.owned(self.actor, owner);
            let what = format!("can change the {word} {} of {base}, {owned}", self.relation.shown());
            found.add(self.actor, WayKind::ViewOwner, what, self.cast.part(self.actor, owner, || None));
        }
        if !invoker {
            let kind = |entry: &Entry| {
                let kind = if stored { WayKind::MaterializedView } else { WayKind::View };
                (entry.privilege == "SELECT").then_some(kind)
            };
            let says = |_, privileges: &str| {
                format!("has {privileges} on the {word} {}, which shows {base}", self.relation.shown())
            };
            self.bundles(kind, says, found);
        }
    }

    fn rule(&self, by: &Use, base: &str, found: &mut Found) {
        let event = match &*by.event {
            "2" => "UPDATE",
            "3" => "INSERT",
            _ => "DELETE",
        };
        let owner = self.relation.owner;
        if self.actor.reaches(owner) {
            let owned = self.cast.owned(self.actor, owner);
            let what = format!("can change rule {} of {}, {owned}, which uses {base}", by.rule, self.relation.shown());
            found.add(self.actor, WayKind::Rule, what, self.cast.part(self.actor, owner, || None));
        }
        let kind = |entry: &Entry| (entry.privilege == event).then_some(WayKind::Rule);
        let says = |_, privileges: &str| {
            format!("has {privileges} on {}, whose rule {} uses {base}", self.relation.shown(), by.rule)
        };
        self.bundles(kind, says, found);
    }

    fn of_lens(&self, found: &mut Found) {
        let kind = |entry: &Entry| (entry.privilege == "TRIGGER").then_some(WayKind::Trigger);
        self.bundles(kind, |_, p| format!("has {p} on {} of the lens", self.relation.shown()), found);
    }

    fn of_pgveil(&self, found: &mut Found) {
        let kind = |entry: &Entry| match &*entry.privilege {
            "SELECT" | "REFERENCES" | "MAINTAIN" => None,
            "TRIGGER" => Some(WayKind::Trigger),
            _ => Some(WayKind::Write),
        };
        self.bundles(kind, |_, p| format!("has {p} on pgveil's own {}", self.relation.shown()), found);
    }

    /// SELECT on it, in whole or in part, or ownership: for foreign tables.
    fn foreign(&self, found: &mut Found) {
        let owner = self.relation.owner;
        if self.actor.reaches(owner) {
            let what =
                format!("reads the foreign table {}, {}", self.relation.shown(), self.cast.owned(self.actor, owner));
            found.add(self.actor, WayKind::ForeignTable, what, self.cast.part(self.actor, owner, || None));
        }
        let kind = |entry: &Entry| (entry.privilege == "SELECT").then_some(WayKind::ForeignTable);
        self.bundles(kind, |_, p| format!("has {p} on the foreign table {}", self.relation.shown()), found);
    }
}

/// Foreign tables outside the protected families and the lens.
pub(super) fn foreign(tables: &Tables, cast: &Cast<'_>, found: &mut Found) {
    for actor in &cast.actors {
        let guards = tables.guards(actor);
        for (oid, relation) in tables.foreign().filter(|(oid, _)| !guards.contains_key(oid)) {
            if !actor.masked.reviewed.iter().any(|(schema, name)| relation.is(schema, name)) {
                At { tables, cast, actor, oid, relation }.foreign(found);
            }
        }
    }
}
