//! Which roles may SELECT the subject's key of which relation.
//!
//! In: rights and memberships of the catalog, the listed tables and the views of lenses. Out: for each role a number, the
//! same for roles of the same rights, so that they share decisions. Never: a right that the catalog does not show.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::rules::{ActorClass, ProtectedTable};
use crate::sql::schema::Schema;

/// May read every table without a grant.
const READ_ALL: &str = "pg_read_all_data";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Readers {
    /// Role → one of `sets`, counted from 1.
    of: HashMap<String, u16>,
    /// Relations whose key may be read.
    sets: Vec<BTreeSet<u32>>,
}

impl Readers {
    /// Of these tables, and of the views that show their keys to some class.
    pub fn build(schema: &Schema, tables: &HashMap<u32, Arc<ProtectedTable>>, classes: &[ActorClass]) -> Self {
        let keys = keys(schema, tables, classes);
        let mut granted: HashMap<&str, BTreeSet<u32>> = HashMap::new();
        for (relation, attnum) in &keys {
            let rights = [(*relation, 0), (*relation, *attnum)];
            for grantee in rights.iter().filter_map(|right| schema.readers.get(right)).flatten() {
                granted.entry(grantee).or_default().insert(*relation);
            }
        }
        let all: BTreeSet<u32> = keys.iter().map(|(relation, _)| *relation).collect();
        let mut readers = Self::default();
        let mut numbers: HashMap<BTreeSet<u32>, u16> = HashMap::new();
        for (name, role) in &schema.roles {
            let groups = || role.inherits.iter().map(String::as_str);
            let set = if role.superuser || groups().any(|group| group == READ_ALL) {
                all.clone()
            } else {
                let grantees = groups().chain(["", name.as_str()]);
                grantees.filter_map(|grantee| granted.get(grantee)).flatten().copied().collect()
            };
            let Ok(next) = u16::try_from(readers.sets.len() + 1) else { break };
            if set.is_empty() {
                continue;
            }
            let number = *numbers.entry(set).or_insert_with_key(|set| {
                readers.sets.push(set.clone());
                next
            });
            readers.of.insert(name.clone(), number);
        }
        readers
    }

    /// The number of that role's rights; 0: it may read no key.
    pub fn of(&self, role: &str) -> u16 {
        self.of.get(role).copied().unwrap_or(0)
    }

    /// Whether a role of these rights may read the key of that relation.
    pub fn may(&self, rights: u16, relation: u32) -> bool {
        let set = usize::from(rights).checked_sub(1).and_then(|at| self.sets.get(at));
        set.is_some_and(|set| set.contains(&relation))
    }
}

/// (relation, attnum) of every key: of the tables, and of the views that pass it.
fn keys(schema: &Schema, tables: &HashMap<u32, Arc<ProtectedTable>>, classes: &[ActorClass]) -> HashSet<(u32, i16)> {
    let own = tables.values().filter_map(|table| Some((table.oid, table.subject.as_ref()?.attnum)));
    let mut keys: HashSet<(u32, i16)> = own.collect();
    let views = classes.iter().filter_map(|class| class.lens.as_ref()).flat_map(|lens| &lens.views);
    for (table, view) in views {
        let Some(key) = tables.get(table).and_then(|table| table.subject.as_ref()) else { continue };
        let Some(view) = schema.relation(*view) else { continue };
        let shown = view.columns.iter().find(|column| column.source == Some((*table, key.attnum)));
        keys.extend(shown.map(|column| (view.oid, column.attnum)));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::super::rules::SubjectKey;
    use super::*;
    use crate::sql::schema::Role;

    #[test]
    fn rights_come_from_grants_memberships_and_attributes() {
        let mut schema = Schema::default();
        let role = |inherits: &[&str], superuser| Role {
            superuser,
            inherits: inherits.iter().map(|name| (*name).to_owned()).collect(),
            ..Role::default()
        };
        let roles = [
            ("whole", role(&[], false)),
            ("key", role(&[], false)),
            ("other", role(&[], false)),
            ("member", role(&["key"], false)),
            ("all", role(&[READ_ALL], false)),
            ("root", role(&[], true)),
        ];
        schema.roles.extend(roles.map(|(name, role)| (name.to_owned(), role)));
        schema.readers.insert((10, 0), vec!["whole".into()]);
        schema.readers.insert((10, 2), vec!["key".into()]);
        schema.readers.insert((10, 3), vec!["other".into()]);
        schema.readers.insert((11, 0), vec!["".into()]);
        let table = |oid| {
            let subject = Some(SubjectKey { kind: "user".into(), attnum: 2, column: "id".into() });
            let (name, levels, pending) = ("t".into(), HashMap::new(), Vec::new());
            (oid, Arc::new(ProtectedTable { oid, name, subject, levels, pending }))
        };
        let readers = Readers::build(&schema, &HashMap::from([table(10), table(11)]), &[]);
        let may = |role: &str, relation| readers.may(readers.of(role), relation);
        for (role, first) in
            [("whole", true), ("key", true), ("other", false), ("member", true), ("all", true), ("root", true)]
        {
            assert_eq!((may(role, 10), may(role, 11)), (first, true), "{role}");
        }
        assert_eq!((may("nobody", 11), may("whole", 12)), (false, false));
        assert_eq!(readers.of("whole"), readers.of("root"));
    }
}
