//! Evidence from a log on this machine, and invented evidence for a drill.

use std::collections::BTreeSet;
use std::path::Path;

use super::Categories;
use crate::audit::events_since;
use crate::detect::evidence::{Counted, Evidence, Light};
use crate::error::Result;
use crate::event::{Access, Event, EventKind, Shown, Touch};
use crate::store::incidents::Incident;

/// What the actor did until `until_us` by the log in `dir`, and how it was established. Reads the log from the incident's
/// beginning on.
///
/// # Errors
/// The log cannot be read.
pub fn evidence(dir: &Path, incident: &Incident, until_us: i64, light: &Light) -> Result<(Evidence, Vec<String>)> {
    let (mut evidence, mut auth) = (Evidence::new(light.clone()), BTreeSet::new());
    let (mut events, _) = events_since(dir, incident.since_us, u64::MAX)?;
    for (_, event) in events.by_ref() {
        if event.at_us >= incident.since_us && event.at_us <= until_us && is_theirs(&event, incident) {
            evidence.add_event(&event);
            if let Some(actor) = &event.actor
                && let Ok(serde_json::Value::String(word)) = serde_json::to_value(actor.auth)
            {
                auth.insert(word);
            }
        }
    }
    match events.failed() {
        Some(error) => Err(error),
        None => Ok((evidence, auth.into_iter().collect())),
    }
}

fn is_theirs(event: &Event, incident: &Incident) -> bool {
    let Some(actor) = event.actor.as_deref() else { return false };
    let address = actor.client.map(|address| format!("address {address}"));
    actor.database == incident.database
        && (actor.role == incident.actor || address.is_some_and(|address| address == incident.actor))
}

/// As if somebody had read the policy's most protected columns.
pub fn synthetic(categories: &Categories, first_us: i64, last_us: i64) -> Evidence {
    let mut sorted: Vec<_> = categories.iter().collect();
    sorted.sort_by_key(|(column, category)| (category.level != "restricted", category.data.is_none(), *column));
    let touch = |shown| {
        move |((relation, column), _): &(&(String, String), _)| Touch {
            relation: relation.as_str().into(),
            column: column.as_str().into(),
            shown,
        }
    };
    let mut evidence = Evidence::default();
    for (shown, rows, unknown_rows) in [(Shown::Clear, 250, 10), (Shown::Masked, 120, 0), (Shown::Sealed, 30, 0)] {
        evidence.add(&Counted {
            kind: EventKind::Statement,
            access: if shown == Shown::Clear { Access::Export } else { Access::Read },
            touches: sorted.iter().take(4).map(touch(shown)).collect(),
            touches_unknown: sorted.is_empty(),
            code: None,
            events: 3,
            rows,
            unknown_rows,
            more_people: 0,
            first_us,
            last_us,
        });
    }
    evidence.people = 137;
    evidence
}
