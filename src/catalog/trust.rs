//! Whether a lens may be trusted: no role that should see through it has a way around it.
//!
//! In: compiled rules, the catalog. Out: the ways that were found, and rules without the lenses that have one. Never: trust
//! without an answer; when the catalog does not say, every lens is set aside and pgveil reads all SQL itself.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::ways::{Hidden, Masked, Way, WayKind, ways};
use crate::error::Result;
use crate::policy::lens::{OWNER, View};
use crate::policy::rules::{ClassId, Rules};

/// Every role that sees through a lens, under its own name: the grantees of the views, and the logins of their classes.
pub fn masked(rules: &Rules) -> Vec<Masked> {
    let mut by_role: BTreeMap<&str, Masked> = BTreeMap::new();
    let key = rules.schema.named("pgveil", "lens_key").map(|table| table.oid);
    for view in &rules.views {
        let logins = rules.class_of.iter().filter(|(_, id)| *rules.class(**id).role == *view.role);
        let roles: BTreeSet<&str> = logins.map(|(login, _)| login.as_str()).chain([&*view.grantee]).collect();
        for role in roles {
            let masked = by_role.entry(role).or_insert_with(|| Masked {
                role: role.to_owned(),
                hidden: key.iter().map(|key| Hidden { relation: *key, columns: Vec::new() }).collect(),
                lens_schemas: Vec::new(),
                lens_owner: OWNER.to_owned(),
                reviewed: rules.reviewed.clone(),
            });
            let whole = view.filtered || view.purpose.is_some();
            let columns = if whole { Vec::new() } else { view.hidden.clone() };
            // A table that one of its purposes has a view of has one for each.
            let hidden = Hidden { relation: view.base, columns };
            if !masked.hidden.contains(&hidden) {
                masked.hidden.push(hidden);
            }
            if !masked.lens_schemas.iter().any(|schema| **schema == *view.schema) {
                masked.lens_schemas.push(view.schema.to_string());
            }
        }
    }
    by_role.into_values().collect()
}

/// By writing its role learns which hidden rows there are, and the policy accepts that.
pub fn accepted(rules: &Rules, way: &Way) -> bool {
    let logins = rules.class_of.get(&way.role).map(|id| rules.class(*id).role.as_str());
    let own = |view: &&View| logins == Some(&*view.role) || *view.grantee == *way.role;
    way.kind == WayKind::Existence && rules.views.iter().filter(own).all(|view| view.accepts_existence)
}

/// Finds the ways around the lenses that are in the database, and sets aside those that have one.
///
/// # Errors
/// The catalog did not answer; then all lenses are set aside.
pub async fn trust(client: Option<&Client>, rules: &mut Rules) -> Result<Vec<Way>> {
    let written = rules.classes_written();
    if rules.classes.iter().take(written).all(|class| class.lens.is_none()) {
        return Ok(Vec::new());
    }
    let found = match client {
        Some(client) => ways(client, &masked(rules)).await.map(|mut ways| {
            ways.retain(|way| !accepted(rules, way));
            ways
        }),
        None => Err(crate::error::Error::Control("there is no control connection".into())),
    };
    let around = |role: &str| found.as_ref().map_or(true, |ways| ways.iter().any(|way| way.role == role));
    let grantee =
        |class: &str| rules.views.iter().find(|view| *view.role == *class).map(|view| view.grantee.to_string());
    let mut distrusted = Vec::new();
    for (at, class) in rules.classes.iter().take(written).enumerate().filter(|(_, class)| class.lens.is_some()) {
        let theirs = |id: &ClassId| rules.class(*id).role == class.role;
        let mut logins = rules.class_of.iter().filter(|(_, id)| theirs(id)).map(|(login, _)| login);
        if logins.any(|login| around(login)) || grantee(&class.role).is_none_or(|grantee| around(&grantee)) {
            distrusted.push(at);
        }
    }
    for at in distrusted {
        rules.classes[at].lens = None;
    }
    if let Ok(ways) = &found {
        rules.warnings.extend(
            ways.iter().map(|way| {
                format!("[roles] a way around the lens: {way}; `pgveil apply --lenses` says what closes it")
            }),
        );
    }
    found
}
