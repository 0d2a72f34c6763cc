//! Which connections may come at all, by network, user and database: what pg_hba.conf is to PostgreSQL.
//!
//! In: rules, and who stands at the door. Out: nothing, or a refusal. Never: a login; a connection that is let in here still
//! has to prove who it is.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::error::{Code, Refusal};

/// One rule. The first that fits decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Networks it is for; empty: all.
    pub from: Vec<IpNet>,
    /// Users it is for; empty: all.
    pub users: Vec<String>,
    /// Databases it is for; empty: all.
    pub databases: Vec<String>,
    /// Who may come.
    pub allow: Allow,
}

/// What a rule asks of whoever it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Nothing.
    Any,
    /// TLS.
    Tls,
    /// A certificate of an authority in `client_ca` whose common name is the user's (`clientcert=verify-full`).
    Certificate,
    /// They are not let in.
    Nobody,
}

/// Who stands at the door, by their own word but for the address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor<'a> {
    pub(crate) address: IpAddr,
    pub(crate) user: &'a [u8],
    pub(crate) database: &'a [u8],
    pub(crate) tls: bool,
    /// The common name of the certificate they have shown.
    pub(crate) certificate: Option<&'a str>,
}

/// Whether they may come. Without rules everybody may; with rules, only whom one of them lets in.
pub(crate) fn judge(rules: &[Rule], visitor: &Visitor<'_>) -> Result<(), Refusal> {
    if rules.is_empty() {
        return Ok(());
    }
    let listed = |names: &[String], name: &[u8]| names.is_empty() || names.iter().any(|n| n.as_bytes() == name);
    let fits = |rule: &&Rule| {
        (rule.from.is_empty() || rule.from.iter().any(|network| network.contains(&visitor.address)))
            && listed(&rule.users, visitor.user)
            && listed(&rule.databases, visitor.database)
    };
    match rules.iter().find(fits).map_or(Allow::Nobody, |rule| rule.allow) {
        Allow::Any => Ok(()),
        Allow::Tls if visitor.tls => Ok(()),
        Allow::Tls => Err(Refusal::new(Code::TlsRequired, "this connection must use TLS", "Use sslmode=require.")),
        Allow::Certificate if visitor.certificate.is_some_and(|name| name.as_bytes() == visitor.user) => Ok(()),
        Allow::Certificate => Err(Refusal::new(
            Code::NotAllowed,
            "this user must show a client certificate in its name",
            "Use sslcert and sslkey with a certificate whose common name is the user's.",
        )),
        Allow::Nobody => {
            let (user, database) = (String::from_utf8_lossy(visitor.user), String::from_utf8_lossy(visitor.database));
            let encryption = if visitor.tls { "TLS" } else { "no encryption" };
            let message = format!(
                "no rule lets in host \"{}\", user \"{user}\", database \"{database}\", {encryption}",
                visitor.address
            );
            Err(Refusal::new(Code::NotAllowed, message, "Add one to [[listen.rules]]."))
        }
    }
}

/// How many of one kind are here, each with a bound of its own.
#[derive(Debug)]
pub(crate) struct Tally<K> {
    max: usize,
    counts: Mutex<HashMap<K, usize>>,
}

impl<K: Clone + Eq + Hash> Tally<K> {
    pub(crate) fn new(max: Option<usize>) -> Arc<Self> {
        Arc::new(Self { max: max.unwrap_or(usize::MAX), counts: Mutex::default() })
    }

    /// Counts one more, until the result is dropped; `None` if there are enough.
    pub(crate) fn enter(self: &Arc<Self>, key: K) -> Option<Entry<K>> {
        let mut counts = self.counts();
        let count = counts.entry(key.clone()).or_insert(0);
        // An entry that is refused has `max` members, so it is not left behind empty.
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Entry { tally: self.clone(), key })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // The counts are whole after every statement that changes them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is counted.
#[derive(Debug)]
pub(crate) struct Entry<K: Eq + Hash> {
    tally: Arc<Tally<K>>,
    key: K,
}

impl<K: Eq + Hash> Drop for Entry<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// What counts as one address: with IPv6 a host has a whole /64 to choose from.
pub(crate) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

pub(crate) fn crowded_address() -> Refusal {
    Refusal::new(
        Code::TooManyConnections,
        "too many connections from this address",
        "Close connections, or raise [listen] max_connections_per_address.",
    )
}

pub(crate) fn crowded_user() -> Refusal {
    Refusal::new(
        Code::TooManyConnections,
        "too many connections of this user",
        "Close connections, or raise [listen] max_connections_per_user.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: &[&str], users: &[&str], databases: &[&str], allow: Allow) -> Rule {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let from = from.iter().map(|n| n.parse().unwrap()).collect();
        Rule { from, users: names(users), databases: names(databases), allow }
    }

    fn answer(rules: &[Rule], address: &str, user: &str, tls: bool, certificate: Option<&str>) -> &'static str {
        let address = address.parse().unwrap();
        let visitor = Visitor { address, user: user.as_bytes(), database: b"app", tls, certificate };
        judge(rules, &visitor).map_or_else(|refusal| refusal.code.as_str(), |()| "in")
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = [
            rule(&["10.1.0.0/16"], &[], &[], Allow::Nobody),
            rule(&["10.0.0.0/8", "2001:db8::/32"], &["app"], &["app"], Allow::Tls),
            rule(&[], &["dba"], &[], Allow::Certificate),
            rule(&["127.0.0.0/8"], &[], &["app"], Allow::Any),
            rule(&[], &[], &["other"], Allow::Any),
        ];
        for (address, user, tls, certificate, expected) in [
            ("10.1.2.3", "app", true, None, "PV029"),
            ("10.2.2.3", "app", true, None, "in"),
            ("10.2.2.3", "app", false, None, "PV003"),
            ("2001:db8::7", "app", true, None, "in"),
            ("2001:db9::7", "app", true, None, "PV029"),
            ("10.2.2.3", "ann", true, Some("ann"), "PV029"),
            ("9.9.9.9", "dba", true, Some("dba"), "in"),
            ("9.9.9.9", "dba", true, Some("DBA"), "PV029"),
            ("9.9.9.9", "dba", true, None, "PV029"),
            ("127.0.0.1", "dba", false, None, "PV029"),
            ("127.0.0.1", "ann", false, None, "in"),
        ] {
            assert_eq!(answer(&rules, address, user, tls, certificate), expected, "{address} {user}");
        }
        assert_eq!(answer(&[], "9.9.9.9", "ann", false, None), "in");
    }

    #[test]
    fn a_tally_is_bounded_and_forgets() {
        let tally = Tally::new(Some(2));
        let (a, b) = (tally.enter("a").unwrap(), tally.enter("a").unwrap());
        assert!(tally.enter("a").is_none());
        let other = tally.enter("b").unwrap();
        drop(a);
        drop(tally.enter("a").unwrap());
        drop((b, other));
        assert!(tally.counts().is_empty());
    }

    #[test]
    fn an_ipv6_household_is_a_64() {
        let of = |text: &str| household(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(of("10.0.0.1"), "10.0.0.1");
    }
}
