//! How many incidents are open, and how long until somebody must have been told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Incident, list};
use crate::clock::Now;
use crate::detect::Severity;
use crate::metrics::Meters;
use crate::store::Store;

/// How often.
const PAUSE: Duration = Duration::from_secs(5);

/// Deadlines and counts, as last read.
#[derive(Default)]
struct Open {
    by_severity: HashMap<Severity, u64>,
    authority_us: Option<i64>,
    hipaa_us: Option<i64>,
}

impl Open {
    fn of(incidents: &[Incident]) -> Self {
        let mut open = Self::default();
        for incident in incidents.iter().filter(|incident| !incident.drill) {
            *open.by_severity.entry(incident.severity).or_default() += 1;
            let nearer = |known: Option<i64>, due: Option<i64>| known.into_iter().chain(due).min();
            open.authority_us = nearer(open.authority_us, incident.progress.authority_due_us());
            open.hipaa_us = nearer(open.hipaa_us, incident.progress.hipaa_due_us());
        }
        open
    }
}

/// Until it is dropped. While the tables cannot be read, the last known deadlines go on coming nearer.
pub async fn measure(store: Store, meters: Arc<Meters>) {
    let mut open = Open::default();
    loop {
        if let Ok(found) = store.within(async |client| list(client, false).await).await {
            open = Open::of(&found);
        }
        for severity in Severity::ALL {
            let count = open.by_severity.get(&severity).copied().unwrap_or(0);
            meters.incidents_open(severity as usize, count);
        }
        let now = Now::read().unix_us;
        let left = |due: Option<i64>| due.map_or(f64::INFINITY, |due| (due - now) as f64 / 1e6);
        meters.incident_deadlines(left(open.authority_us), left(open.hipaa_us));
        tokio::time::sleep(PAUSE).await;
    }
}
