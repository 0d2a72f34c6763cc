//! Who is connected to the protected database past the proxy.
//!
//! In: pg_stat_activity on the control connection, the proxy's own backends. Out: one event per backend that is nobody's
//! session here. Never: what such a backend runs, a look more often than every [`EVERY_NS`].

use std::collections::HashSet;
use std::net::IpAddr;

use tokio_postgres::Client;

use super::backends::Backends;
use super::connect::control;
use crate::clock::Now;
use crate::detect::{Rule, Thresholds};
use crate::error::Result;
use crate::event::{Actor, ActorAuth, Event, EventKind};

/// Looks are this far apart at least.
const EVERY_NS: u64 = 15_000_000_000;

/// A backend may be seen by the server before this proxy has read its process id: so long it is given.
const SETTLE_NS: u64 = 1_000_000_000;

/// Backends that are named at one look; the server's `max_connections` is lower almost everywhere.
const SEEN_MAX: i64 = 10_000;

/// Without pg_read_all_stats neither a backend's kind nor its address nor its age can be seen.
const MAY_LOOK: &str = "select pg_catalog.pg_has_role('pg_read_all_stats', 'usage')";

const LOOK: &str = "select pid, usename::text, datname::text, coalesce(application_name, ''), \
     pg_catalog.host(client_addr), \
     coalesce((extract(epoch from pg_catalog.clock_timestamp() - backend_start) * 1e6)::bigint, 0) as age_us, \
     coalesce((extract(epoch from backend_start) * 1e6)::bigint, 0) as began_us \
     from pg_catalog.pg_stat_activity \
     where datname = pg_catalog.current_database() and usename <> current_user and backend_type = 'client backend' \
     limit $1";

/// One backend, as nobody else in the server's life: process id and start.
type Identity = (i32, i64);

/// Seen, and not known to be ours.
struct Suspect {
    identity: Identity,
    actor: Actor,
    began_ns: u64,
    seen_ns: u64,
}

/// What has been seen and said.
#[derive(Default)]
pub(super) struct Bypass {
    looked_ns: Option<u64>,
    suspects: Vec<Suspect>,
    told: HashSet<Identity>,
    /// The last look was refused.
    pub(super) blind: bool,
}

impl Bypass {
    /// Looks, if it is time to; events of whoever is surely not ours.
    pub(super) async fn look(&mut self, client: &Client, ours: &Backends, t: &Thresholds) -> Result<Vec<Event>> {
        let now = Now::read();
        if !t.of(Rule::Bypass).enabled {
            *self = Self { looked_ns: self.looked_ns, ..Self::default() };
            return Ok(Vec::new());
        }
        if self.looked_ns.is_none_or(|at| now.mono_ns.saturating_sub(at) >= EVERY_NS) {
            self.looked_ns = Some(now.mono_ns);
            self.ask(client, now, t).await?;
        }
        Ok(self.settled(Now::read(), ours))
    }

    async fn ask(&mut self, client: &Client, now: Now, t: &Thresholds) -> Result<()> {
        let may: bool = client.query_one(MAY_LOOK, &[]).await.map_err(|e| control(&e))?.get(0);
        if !may && !self.blind {
            tracing::warn!(
                "rule bypass sees nothing: the control account cannot see other roles' connections; \
                 grant pg_read_all_stats to it, or say enabled = false in [detect.rules.bypass]"
            );
        }
        self.blind = !may;
        if self.blind {
            return Ok(());
        }
        let rows = client.query(LOOK, &[&SEEN_MAX]).await.map_err(|e| control(&e))?;
        let mut here = HashSet::new();
        self.suspects.clear();
        for row in &rows {
            let identity = (row.get("pid"), row.get("began_us"));
            here.insert(identity);
            let client: Option<String> = row.get(4);
            let client = client.and_then(|text| text.parse::<IpAddr>().ok()).map(|address| address.to_canonical());
            let actor = Actor {
                role: row.get(1),
                database: row.get(2),
                auth: ActorAuth::None,
                certificate: None,
                application: application(row.get(3)),
                client,
                purpose: None,
                purpose_by: None,
                person: None,
            };
            let exempt = client.is_some_and(|address| t.bypass_addresses.contains(&address));
            if exempt || t.watching(Rule::Bypass, &actor.role).is_none() || self.told.contains(&identity) {
                continue;
            }
            let age: i64 = row.get("age_us");
            let began_ns = now.mono_ns.saturating_sub(u64::try_from(age).unwrap_or(0).saturating_mul(1_000));
            self.suspects.push(Suspect { identity, actor, began_ns, seen_ns: now.mono_ns });
        }
        self.told.retain(|identity| here.contains(identity));
        Ok(())
    }

    /// Those that this proxy would know of by now.
    fn settled(&mut self, now: Now, ours: &Backends) -> Vec<Event> {
        let mut events = Vec::new();
        let (old, young) = std::mem::take(&mut self.suspects)
            .into_iter()
            .partition(|suspect: &Suspect| now.mono_ns.saturating_sub(suspect.seen_ns) >= SETTLE_NS);
        self.suspects = young;
        for suspect in old {
            let pid = u32::try_from(suspect.identity.0).unwrap_or_default();
            if !ours.ours(pid, suspect.began_ns) && self.told.insert(suspect.identity) {
                let mut event = Event::new(EventKind::Bypass, now.unix_us);
                event.actor = Some(suspect.actor.into());
                events.push(event);
            }
        }
        events
    }
}

/// What a client calls itself, as sessions record it.
fn application(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_backend_is_told_once_and_only_when_it_had_time_to_be_ours() {
        let ours = Arc::new(Backends::default());
        let suspect = |pid| Suspect {
            identity: (pid, 1),
            actor: Actor {
                role: "eve".into(),
                database: "clinic".into(),
                auth: ActorAuth::None,
                certificate: None,
                application: application("a\nb"),
                client: None,
                purpose: None,
                purpose_by: None,
                person: None,
            },
            began_ns: 10,
            seen_ns: 10,
        };
        let at = |mono_ns| Now { mono_ns, unix_us: 5 };
        let mut bypass = Bypass::default();
        bypass.suspects.extend([suspect(7), suspect(8)]);
        assert!(bypass.settled(at(10 + SETTLE_NS - 1), &ours).is_empty());
        let _ticket = ours.enter(8);
        let told = bypass.settled(at(10 + SETTLE_NS), &ours);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].kind, told[0].actor.as_ref().unwrap().application.as_str()), (EventKind::Bypass, "a?b"));
        bypass.suspects.push(suspect(7));
        assert!(bypass.settled(at(20 + SETTLE_NS), &ours).is_empty(), "said already");
    }
}
