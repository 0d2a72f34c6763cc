//! Whom a masked role can act as: by inheriting, by SET ROLE, or by an ADMIN option that lets it grant itself either.
//!
//! In: pg_roles and pg_auth_members as they are. Out: for each masked role every role it reaches, with the shortest
//! chain that leads there. Never: a membership that gives nothing (PostgreSQL 16: neither INHERIT, SET nor ADMIN).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use tokio_postgres::Client;

use super::{Masked, ask, queries};
use crate::error::{Error, Result};
use crate::sql::name::quoted as name;

/// The grantee called PUBLIC.
pub(super) const PUBLIC: u32 = 0;

/// One role.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) superuser: bool,
    pub(super) bypassrls: bool,
    pub(super) createrole: bool,
    pub(super) replication: bool,
}

/// A masked role that exists, and whom it reaches.
#[derive(Debug)]
pub(super) struct Actor<'a> {
    pub(super) masked: &'a Masked,
    /// Which of those that were asked about.
    pub(super) index: usize,
    pub(super) oid: u32,
    /// From the first group to the holder itself, which is the key; empty for the role itself.
    reach: BTreeMap<u32, Vec<u32>>,
}

impl Actor<'_> {
    /// It has what the holder has.
    pub(super) fn reaches(&self, holder: u32) -> bool {
        holder == PUBLIC || self.reach.contains_key(&holder)
    }

    /// Itself and its groups, in a stable order.
    pub(super) fn holders(&self) -> impl Iterator<Item = u32> + '_ {
        self.reach.keys().copied()
    }
}

/// How a way is closed: the SQL, and whether it takes something from the masked role alone.
pub(super) type Fix = (Option<String>, bool);

/// The database asked about.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) owner: u32,
}

/// Everybody.
#[derive(Debug)]
pub(super) struct Cast<'a> {
    pub(super) actors: Vec<Actor<'a>>,
    pub(super) roles: HashMap<u32, Role>,
    /// Everybody whom any of the actors reaches, and PUBLIC.
    pub(super) holders: Vec<u32>,
    pub(super) database: Database,
    names: HashSet<String>,
    /// Grantors of a membership, where they matter.
    grants: HashMap<(u32, u32), Vec<Option<u32>>>,
}

impl<'a> Cast<'a> {
    /// Reads the roles. A masked role that does not exist has no way.
    pub(super) async fn read(client: &Client, masked: &'a [Masked]) -> Result<Self> {
        let here = ask(client, queries::HERE, &[]).await?;
        let here = here.first().ok_or_else(|| Error::Control("the catalog gave no answer".into()))?;
        let database = Database { name: here.get(0), owner: here.get(1) };
        let mut roles = HashMap::new();
        for row in ask(client, queries::ROLES, &[]).await? {
            let role = Role {
                name: row.get(1),
                superuser: row.get(2),
                bypassrls: row.get(3),
                createrole: row.get(4),
                replication: row.get(5),
            };
            roles.insert(row.get::<_, u32>(0), role);
        }
        let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut grants: HashMap<(u32, u32), Vec<Option<u32>>> = HashMap::new();
        for row in ask(client, queries::MEMBERS, &[]).await? {
            let (member, group): (u32, u32) = (row.get(0), row.get(1));
            groups.entry(member).or_default().push(group);
            grants.entry((member, group)).or_default().push(row.get(2));
        }
        // The owner of a database is a member of this role in it, without a row anywhere.
        if let Some((oid, _)) = roles.iter().find(|(_, role)| role.name == "pg_database_owner") {
            groups.entry(database.owner).or_default().push(*oid);
        }
        groups.values_mut().for_each(|of| of.sort_unstable());
        let by_name: HashMap<&str, u32> = roles.iter().map(|(oid, role)| (&*role.name, *oid)).collect();
        let actor = |(index, masked): (usize, &'a Masked)| {
            let oid = *by_name.get(&*masked.role)?;
            Some(Actor { masked, index, oid, reach: reach(oid, &groups) })
        };
        let actors: Vec<Actor<'a>> = masked.iter().enumerate().filter_map(actor).collect();
        let names = roles.values().map(|role| role.name.clone()).collect();
        let mut cast = Self { actors, roles, holders: Vec::new(), database, names, grants };
        cast.gather();
        Ok(cast)
    }

    /// Makes `holders` what the actors say.
    pub(super) fn gather(&mut self) {
        self.holders = self.actors.iter().flat_map(Actor::holders).chain([PUBLIC]).collect();
        self.holders.sort_unstable();
        self.holders.dedup();
    }

    /// A role's name, for people.
    pub(super) fn name(&self, oid: u32) -> &str {
        if oid == PUBLIC { "PUBLIC" } else { self.roles.get(&oid).map_or("?", |role| &role.name) }
    }

    /// There is a role of that name.
    pub(super) fn is_role(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// A role's name in SQL.
    pub(super) fn sql(&self, oid: u32) -> String {
        if oid == PUBLIC { "public".to_owned() } else { name(self.name(oid)) }
    }

    /// `granted to it`, `granted to PUBLIC`, `granted to c, which it reaches as a → b → c`.
    pub(super) fn granted(&self, actor: &Actor<'_>, holder: u32) -> String {
        match self.chain(actor, holder) {
            None if holder == actor.oid => "granted to it".to_owned(),
            None => "granted to PUBLIC".to_owned(),
            Some(chain) => format!("granted to {}, which it is a member of ({chain})", self.name(holder)),
        }
    }

    /// `which it owns`, `owned by c, which it reaches as a → b → c`.
    pub(super) fn owned(&self, actor: &Actor<'_>, holder: u32) -> String {
        match self.chain(actor, holder) {
            None => "which it owns".to_owned(),
            Some(chain) => format!("owned by {}, which it is a member of ({chain})", self.name(holder)),
        }
    }

    /// The chain of memberships, if there is one.
    pub(super) fn chain(&self, actor: &Actor<'_>, holder: u32) -> Option<String> {
        let path = actor.reach.get(&holder).filter(|path| !path.is_empty())?;
        let names = path.iter().map(|oid| self.name(*oid));
        Some(std::iter::once(&*actor.masked.role).chain(names).collect::<Vec<_>>().join(" → "))
    }

    /// What ends an ownership, so that it ends for this role: `own` for the role itself, which concerns whoever uses the
    /// object; the membership for a group's member.
    pub(super) fn part(&self, actor: &Actor<'_>, holder: u32, own: impl FnOnce() -> Option<String>) -> Fix {
        if holder == actor.oid { (own(), false) } else { self.leave(actor, holder) }
    }

    /// What takes a right away: from the role or PUBLIC by REVOKE, from a group's member by ending the membership. A
    /// right that somebody else than the owner granted is taken back with his grant option.
    pub(super) fn take(&self, actor: &Actor<'_>, right: &Right<'_>) -> Fix {
        let (what, on) = (right.what, right.on);
        if right.grantee != actor.oid && right.grantee != PUBLIC {
            return self.leave(actor, right.grantee);
        }
        let from = self.sql(right.grantee);
        if right.grantor != right.owner {
            let from = self.sql(right.grantor);
            return (Some(format!("revoke grant option for {what} on {on} from {from} cascade")), false);
        }
        // What was granted onward goes with it.
        let cascade = if right.grantable { " cascade" } else { "" };
        let alone = right.grantee == actor.oid && !right.grantable;
        (Some(format!("revoke {what} on {on} from {from}{cascade}")), alone)
    }

    /// The role leaves the group that leads to the holder.
    pub(super) fn leave(&self, actor: &Actor<'_>, holder: u32) -> Fix {
        let first = actor.reach.get(&holder).and_then(|path| path.first().copied()).unwrap_or(PUBLIC);
        // Without a row the membership is implied by something else, which has its own way.
        let Some(grantors) = self.grants.get(&(actor.oid, first)) else { return (None, false) };
        let onward =
            |((_, group), by): (&(u32, u32), &Vec<Option<u32>>)| *group == first && by.contains(&Some(actor.oid));
        let onward = self.grants.iter().any(onward);
        let revoke = |grantor: &Option<u32>| {
            let by = grantor.map(|oid| format!(" granted by {}", self.sql(oid))).unwrap_or_default();
            let cascade = if onward { " cascade" } else { "" };
            format!("revoke {} from {}{by}{cascade}", self.sql(first), self.sql(actor.oid))
        };
        (Some(grantors.iter().map(revoke).collect::<Vec<_>>().join(";\n")), !onward)
    }
}

/// A right as an ACL has it.
#[derive(Debug)]
pub(super) struct Right<'a> {
    /// `select`, `usage`.
    pub(super) what: &'a str,
    /// `schema "s"`.
    pub(super) on: &'a str,
    pub(super) grantee: u32,
    pub(super) grantor: u32,
    pub(super) owner: u32,
    pub(super) grantable: bool,
}

/// Breadth first, so that every chain is a shortest one. Each role is entered once.
fn reach(from: u32, groups: &HashMap<u32, Vec<u32>>) -> BTreeMap<u32, Vec<u32>> {
    let mut found = BTreeMap::from([(from, Vec::new())]);
    let mut queue = VecDeque::from([from]);
    while let Some(member) = queue.pop_front() {
        let path = found.get(&member).cloned().unwrap_or_default();
        for group in groups.get(&member).into_iter().flatten() {
            if !found.contains_key(group) {
                found.insert(*group, [&path[..], &[*group]].concat());
                queue.push_back(*group);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_chain_is_found_and_circles_end() {
        let groups = HashMap::from([(1, vec![2, 3]), (2, vec![4]), (3, vec![5]), (4, vec![5]), (5, vec![1])]);
        let found = reach(1, &groups);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!((&found[&1][..], &found[&5][..], &found[&4][..]), (&[][..], &[3, 5][..], &[2, 4][..]));
    }
}
