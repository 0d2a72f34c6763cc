//! `[[listen.rules]]`: which connections may come at all.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::policy::problem::At;
use crate::policy::reader::Section;
use crate::relay::{Allow, Rule};

const ALLOW: &[(&str, Allow)] =
    &[("any", Allow::Any), ("tls", Allow::Tls), ("certificate", Allow::Certificate), ("nobody", Allow::Nobody)];

/// In the order in which they are written. A rule with a problem is left out; the problem is reported.
pub(super) fn read(listen: &mut Section<'_>, tls: bool, certificates: bool) -> Vec<Rule> {
    listen.list("rules").into_iter().filter_map(|section| rule(section, tls, certificates)).collect()
}

fn rule(mut s: Section<'_>, tls: bool, certificates: bool) -> Option<Rule> {
    let networks = s.text_or_texts("from").unwrap_or_default();
    let from = networks.iter().map(|text| network(&s, text)).collect::<Option<Vec<_>>>();
    let mut names = |key| s.text_or_texts(key).unwrap_or_default().into_iter().map(|at| at.value).collect();
    let (users, databases) = (names("users"), names("databases"));
    if !s.has("allow") {
        super::read::missing(&s, "allow", "one of: any, tls, certificate, nobody");
    }
    let allow = s.choice("allow", ALLOW);
    s.close();
    let allow = allow?;
    let possible = match allow.value {
        Allow::Tls => tls,
        Allow::Certificate => certificates,
        Allow::Any | Allow::Nobody => true,
    };
    if !possible {
        let hint = if tls { "give [listen] tls a client_ca" } else { "give [listen] tls a cert and a key" };
        s.problem(&allow.place, "nobody can meet this rule", hint.to_owned());
    }
    Some(Rule { from: from?, users, databases, allow: allow.value })
}

fn network(s: &Section<'_>, text: &At<String>) -> Option<IpNet> {
    let address = || text.value.parse::<IpAddr>().ok().map(IpNet::from);
    let found = text.value.parse::<IpNet>().ok().or_else(address);
    if found.is_none() {
        let hint = "like \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"".to_owned();
        s.problem(&text.place, "not a network", hint);
    }
    found.map(|network| network.trunc())
}
