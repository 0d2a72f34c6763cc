//! The policies the month is watched under.
//!
//! In: the hospital. Out: `[detect]` as an operator would write it, read by pgveil's own reader. Never: a threshold
//! that the policy file cannot say.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pgveil::detect::Thresholds;

use super::hospital::{Clinician, HOLIDAYS, Hospital, Job, VIPS, ZONES};
use super::quiet::{self, Busiest};
use super::service;

/// What is tried for `unusual`.
const DEVIATIONS: [u64; 5] = [6, 10, 16, 25, 40];

/// Thresholds with their windows in seconds, for the policy and for the tumbling windows.
#[derive(Clone, Debug)]
pub struct Limits {
    pub bulk: (u64, u64),
    pub subjects: (u64, u64),
    pub failures: (u64, u64),
    pub export: (u64, u64),
    pub cooldown_s: u64,
    /// Deviations above what is usual.
    pub unusual: u64,
    /// VIPs are listed as canaries, and whoever treats one is exempt.
    pub vips: bool,
    /// Not looked at by the rules that count records or people.
    pub exempt: Vec<String>,
}

impl Limits {
    /// The shipped defaults: the founding documents' numbers.
    pub fn shipped() -> Self {
        Self {
            bulk: (100, 900),
            subjects: (50, 3_600),
            failures: (10, 900),
            export: (1_000, 86_400),
            cooldown_s: 900,
            unusual: 6,
            vips: false,
            exempt: Vec::new(),
        }
    }

    /// What an operator arrives at who looks at a quiet month: a quarter above what the busiest clinician does, and
    /// the shipped numbers where they are above that already.
    pub fn recommended(busiest: Busiest) -> Self {
        let shipped = Self::shipped();
        let above = |(number, window): (u64, u64), most: u64| {
            let quarter = (most + most / 4).next_multiple_of(10);
            (if most < number { number } else { quarter }, window)
        };
        Self {
            bulk: above(shipped.bulk, busiest.records),
            subjects: above(shipped.subjects, busiest.people),
            failures: above(shipped.failures, busiest.failures),
            export: above(shipped.export, busiest.exported),
            exempt: unwatched(),
            ..shipped
        }
    }

    /// The fewest deviations at which `unusual` says at most one thing in that quiet month. It starts from the shipped
    /// number: fewer would be a choice of its own.
    pub fn with_unusual(self, quiet: &Hospital) -> Self {
        let candidates = DEVIATIONS.map(|unusual| Self { unusual, ..self.clone() }.thresholds(quiet));
        let said = quiet::unusual(quiet, candidates);
        let fits = DEVIATIONS.into_iter().zip(said).find(|(_, said)| *said <= 1);
        Self { unusual: fits.map_or(DEVIATIONS[DEVIATIONS.len() - 1], |(deviations, _)| deviations), ..self }
    }

    pub fn of(&self, rule: &str) -> (u64, u64) {
        match rule {
            "bulk" => self.bulk,
            "subjects" => self.subjects,
            "failures" => self.failures,
            "export" => self.export,
            _ => (0, 0),
        }
    }

    /// Whether the rule, one that counts, does not look at that role.
    pub fn exempt(&self, role: &str, rule: &str) -> bool {
        rule != "failures" && self.exempt.iter().any(|exempt| exempt == role)
    }

    /// As the policy file says it; with `short` as people read it, without the long lists of logins.
    pub fn toml(&self, hospital: &Hospital, short: bool) -> String {
        let mut text = String::from("version = 1\n[detect]\n");
        for (name, window, (threshold, seconds)) in [
            ("bulk_records", "bulk_window", self.bulk),
            ("subjects", "subjects_window", self.subjects),
            ("failures", "failures_window", self.failures),
            ("export_records", "export_window", self.export),
        ] {
            let _ = writeln!(text, "{name} = {threshold}\n{window} = \"{}m\"", seconds / 60);
        }
        if self.exempt.is_empty() {
            return text;
        }
        for rule in ["bulk", "subjects", "export"] {
            let _ = writeln!(text, "[detect.rules.{rule}]\nexempt = {}", list(&self.exempt, short));
        }
        let _ = writeln!(text, "[detect.rules.unusual]\nthreshold = {}", self.unusual);
        if self.vips {
            let _ = writeln!(text, "[detect.rules.canary]\nexempt = {}", list(&readers_of_vips(hospital), short));
        }
        let mut written = BTreeSet::new();
        for (_, name, site, week, weekend) in calendars(hospital) {
            if !written.insert(name.clone()) {
                continue;
            }
            if short {
                let _ = writeln!(text, "# [detect.calendars.{name}]: {} {week}, weekend {weekend}", ZONES[site]);
            } else {
                calendar(&mut text, &name, site, week, weekend);
            }
        }
        text
    }

    pub fn thresholds(&self, hospital: &Hospital) -> Thresholds {
        let text = self.toml(hospital, false);
        let policy = pgveil::policy::parse(&[("detect.toml".to_owned(), text.clone())]);
        let policy = policy.unwrap_or_else(|problems| panic!("{problems:#?}\nin {text}"));
        let mut thresholds = policy.detect;
        if self.exempt.is_empty() {
            return thresholds;
        }
        // What `calendar` and `peers` of [roles] come to once the catalog has said who is a member of what.
        for (login, name, ..) in calendars(hospital) {
            thresholds.calendars.extend(policy.calendars.get(&name).map(|hours| (login, hours.clone())));
        }
        let jobs = hospital.clinicians.iter().map(|clinician| clinician.role.clone());
        for login in jobs.chain(unwatched()) {
            let peers = login.trim_end_matches(|c: char| c.is_ascii_digit()).into();
            thresholds.peers.insert(login, peers);
        }
        thresholds
    }
}

fn list(roles: &[String], short: bool) -> String {
    match roles {
        [first, second, .., last] if short => format!("[{first:?}, {second:?}, … {last:?}]  # {} logins", roles.len()),
        _ => format!("{roles:?}"),
    }
}

/// Login, name of its calendar, site, hours of a weekday and of a weekend's day.
type Row = (String, String, usize, &'static str, &'static str);

/// Who has hours: everybody but physicians, and the batch accounts.
fn calendars(hospital: &Hospital) -> Vec<Row> {
    let of_clinician = |clinician: &Clinician| {
        let (name, week, weekend) = clinician.calendar()?;
        Some((clinician.role.clone(), format!("{name}_{}", clinician.site), clinician.site, week, weekend))
    };
    const NIGHT: &str = "01:30-05:00";
    let batches = service::batches().into_iter();
    let batches = batches.map(|(login, site)| (login, format!("batch_{site}"), site, NIGHT, NIGHT));
    hospital.clinicians.iter().filter_map(of_clinician).chain(batches).collect()
}

fn calendar(text: &mut String, name: &str, site: usize, week: &str, weekend: &str) {
    let _ = writeln!(text, "[detect.calendars.{name}]\ntime_zone = {:?}", ZONES[site]);
    for day in ["monday", "tuesday", "wednesday", "thursday", "friday"] {
        let _ = writeln!(text, "{day} = {week:?}");
    }
    for day in ["saturday", "sunday"] {
        let _ = writeln!(text, "{day} = {weekend:?}");
    }
    if weekend == "closed" {
        let _ = writeln!(text, "holidays = {:?}", HOLIDAYS.map(|day| day.to_string()));
    }
}

/// Those who have a reason to look at a VIP. The rule cannot tell at which.
fn readers_of_vips(hospital: &Hospital) -> Vec<String> {
    let wards: Vec<(usize, u64)> = (0..VIPS).map(|vip| hospital.vip_ward(vip)).collect();
    let reads = |clinician: &&Clinician| {
        let ward = wards.contains(&(clinician.site, clinician.ward));
        clinician.job == Job::Laboratory || (ward && clinician.job != Job::Clerk)
    };
    let staff = hospital.clinicians.iter().filter(reads).map(|clinician| clinician.role.clone());
    staff.chain(service::interfaces()).chain(service::shared()).collect()
}

/// Accounts without a person and logins that many share: no threshold fits them and people both.
pub fn unwatched() -> Vec<String> {
    [service::roles(), service::shared()].concat()
}
