//! Who may log in from where: pg_hba's rules that let roles of the policy in past the proxy.
//!
//! In: `pg_hba_file_rules`, where the server sees us. Out: warnings, and a hole where anybody may be anybody over a
//! network. Never: a guess where the rules may not be read.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use tokio_postgres::{Client, Row};

use super::{Check, ask, few};
use crate::sql::schema::Schema;

const RULES: &str = "select line_number, type, database, user_name, address, netmask, auth_method, error, \
     host(inet_client_addr()) from pg_hba_file_rules order by line_number";

/// Who has to be asked, and what for.
const GRANTS: [&str; 2] = [
    "grant select on pg_catalog.pg_hba_file_rules to CONTROL",
    "grant execute on function pg_catalog.pg_hba_file_rules() to CONTROL",
];

/// One rule that matters.
struct Rule {
    line: i32,
    kind: String,
    method: String,
    /// `None`: a Unix socket, or a name.
    network: Option<IpNet>,
    roles: Vec<String>,
}

impl Rule {
    fn local(&self) -> bool {
        let loopback = |net: IpNet| net.addr().is_loopback() && net.prefix_len() >= 8;
        self.kind == "local" || self.network.is_some_and(loopback)
    }

    /// It admits nobody but the host that we come from.
    fn only(&self, ours: Option<IpAddr>) -> bool {
        self.network.is_some_and(|net| net.prefix_len() == net.max_prefix_len() && Some(net.addr()) == ours)
    }
}

/// Paths around the proxy.
pub(super) async fn paths(client: &Client, schema: &Schema, roles: &[&str], found: &mut Vec<Check>) {
    let rows = match ask(client, RULES, &[]).await {
        Ok(rows) => rows,
        Err(error) => {
            let message = match error.denied {
                true => "the control account may not read pg_hba's rules; as a superuser:".to_owned(),
                false => format!("pg_hba's rules could not be read: {}", error.said),
            };
            let check = Check::warning("hba", message);
            found.push(if error.denied { GRANTS.into_iter().fold(check, Check::sql) } else { check });
            return;
        }
    };
    let ours: Option<IpAddr> = rows.first().and_then(|row| row.get::<_, Option<String>>(8)?.parse().ok());
    let mut rules = Vec::new();
    for row in &rows {
        if let Some(error) = row.get::<_, Option<String>>(7) {
            let message =
                format!("line {} of pg_hba.conf has an error, and the file as it is will not load: {error}", line(row));
            found.push(Check::warning("hba", message));
        } else if let Some(rule) = rule(row, schema, roles) {
            let all = rule.method == "reject" && rule.roles.len() == roles.len() && covers_all(row);
            if all {
                break;
            }
            if rule.method != "reject" {
                rules.push(rule);
            }
        }
    }
    let before = found.len();
    for rule in &rules {
        judge(rule, ours, found);
    }
    if found.len() == before {
        found.push(Check::ok("hba", "no rule lets a role of the policy in past the proxy"));
    }
}

fn judge(rule: &Rule, ours: Option<IpAddr>, found: &mut Vec<Check>) {
    let who = few(&rule.roles);
    let change = |check: Check, what: &str| {
        check.todo_by_hand(format!("pg_hba.conf line {}: {what}; then select pg_reload_conf()", rule.line))
    };
    if rule.method == "trust" {
        let message = format!("line {}: whoever comes may be {who} without a password", rule.line);
        let check = if rule.local() { Check::warning("hba_trust", message) } else { Check::hole("hba_trust", message) };
        found.push(change(check, "scram-sha-256 in place of trust"));
    }
    if rule.kind == "local" {
        return;
    }
    if !rule.local() && !rule.only(ours) {
        let message = format!("line {}: {who} may come past the proxy, from other hosts than its own", rule.line);
        found.push(change(Check::warning("hba_around", message), "the proxy's address alone"));
    }
    if !rule.local() && matches!(&*rule.kind, "host" | "hostnossl" | "hostnogssenc") {
        let message = format!("line {}: {who} may come without TLS", rule.line);
        found.push(change(Check::warning("hba_plain", message), "hostssl in place of host"));
    }
}

fn line(row: &Row) -> i32 {
    row.get::<_, Option<i32>>(0).unwrap_or(0)
}

fn rule(row: &Row, schema: &Schema, roles: &[&str]) -> Option<Rule> {
    let list = |at: usize| row.get::<_, Option<Vec<String>>>(at).unwrap_or_default();
    let text = |at: usize| row.get::<_, Option<String>>(at).unwrap_or_default();
    let here =
        |name: &String| *name == schema.database || matches!(&**name, "all" | "sameuser" | "samerole" | "samegroup");
    if !list(2).iter().any(here) {
        return None;
    }
    let mut admitted: BTreeSet<&str> = BTreeSet::new();
    for name in list(3) {
        let member = |role: &&str, group: &str| {
            **role == *group || schema.roles.get(*role).is_some_and(|role| role.member_of.iter().any(|g| g == group))
        };
        match name.strip_prefix('+') {
            _ if name == "all" => admitted.extend(roles),
            Some(group) => admitted.extend(roles.iter().filter(|role| member(role, group))),
            None => admitted.extend(roles.iter().filter(|role| **role == name)),
        }
    }
    if admitted.is_empty() {
        return None;
    }
    Some(Rule {
        line: line(row),
        kind: text(1),
        method: text(6),
        network: network(&text(4), &text(5)),
        roles: admitted.into_iter().map(str::to_owned).collect(),
    })
}

fn network(address: &str, netmask: &str) -> Option<IpNet> {
    if address == "all" {
        return "0.0.0.0/0".parse().ok();
    }
    IpNet::with_netmask(address.parse().ok()?, netmask.parse().ok()?).ok()
}

/// It is about every address.
fn covers_all(row: &Row) -> bool {
    row.get::<_, Option<String>>(1).as_deref() == Some("host")
        && row.get::<_, Option<String>>(4).as_deref() == Some("all")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn judged(kind: &str, address: &str, netmask: &str, method: &str) -> Vec<(String, Severity)> {
        let rule = Rule {
            line: 1,
            kind: kind.into(),
            method: method.into(),
            network: network(address, netmask),
            roles: vec!["analyst".into()],
        };
        let mut found = Vec::new();
        judge(&rule, "10.0.0.7".parse().ok(), &mut found);
        found.into_iter().map(|check| (check.check, check.severity)).collect()
    }

    #[test]
    fn rules_are_judged_by_where_they_let_in_from_and_how() {
        let one = "255.255.255.255";
        let named = |list: &[(&str, Severity)]| list.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect::<Vec<_>>();
        let (warning, hole) = (Severity::Warning, Severity::Hole);
        assert_eq!(judged("local", "", "", "scram-sha-256"), []);
        assert_eq!(judged("local", "", "", "trust"), named(&[("hba_trust", warning)]));
        assert_eq!(judged("host", "127.0.0.1", one, "scram-sha-256"), []);
        assert_eq!(judged("hostssl", "10.0.0.7", one, "scram-sha-256"), [], "the proxy itself");
        assert_eq!(judged("host", "10.0.0.7", one, "scram-sha-256"), named(&[("hba_plain", warning)]));
        assert_eq!(judged("hostssl", "10.0.0.8", one, "scram-sha-256"), named(&[("hba_around", warning)]));
        assert_eq!(judged("hostssl", "all", "", "scram-sha-256"), named(&[("hba_around", warning)]));
        assert_eq!(judged("hostssl", "samenet", "", "scram-sha-256"), named(&[("hba_around", warning)]));
        let all = [("hba_trust", hole), ("hba_around", warning), ("hba_plain", warning)];
        assert_eq!(judged("host", "10.0.0.0", "255.0.0.0", "trust"), named(&all));
    }
}
