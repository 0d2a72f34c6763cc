//! A notification to the supervisory authority: everything that Article 33(3) GDPR asks for.

use super::words::{at, code, consequence, data, established, item, line, or_blank, or_open};
use super::{Facts, words};
use crate::detect::incident::{HIPAA_PEOPLE, Verdict};

/// The draft, Markdown.
pub fn art33(facts: &Facts<'_>) -> String {
    let incident = facts.incident;
    let mut out = String::new();
    if incident.drill {
        out.push_str("> **DRILL.** Nothing of this has happened. Do not send it.\n\n");
    }
    out.push_str(&format!("# Notification of a personal data breach (Article 33 GDPR): INC-{}\n\n", incident.id));
    out.push_str(&format!(
        "Draft of {}, made by pgveil {} from the access log and the incident's history. What stands in **[brackets]** \
         somebody has to fill in; what is not known yet may follow in phases (Article 33(4)).\n\n",
        at(facts.now_us),
        env!("CARGO_PKG_VERSION"),
    ));
    clock(facts, &mut out);
    nature(facts, &mut out);
    numbers(facts, &mut out);
    contact(facts, &mut out);
    consequences(facts, &mut out);
    measures(facts, &mut out);
    hipaa(facts, &mut out);
    out
}

fn clock(facts: &Facts<'_>, out: &mut String) {
    let (incident, progress) = (facts.incident, &facts.incident.progress);
    out.push_str("## The clock\n\n");
    item(out, "detected", &at(progress.detected_us));
    item(out, "aware (Article 33(1))", &or_open(progress.aware_us));
    item(out, "contained", &or_open(progress.contained_us));
    let due = progress.aware_us.map(|aware| aware.saturating_add(crate::detect::incident::AUTHORITY_US));
    let said = match (due, progress.notified_us) {
        (None, _) => "72 hours after somebody is aware of it".to_owned(),
        (Some(due), Some(told)) if told <= due => format!("{}, met", at(due)),
        (Some(due), Some(_)) => format!("{}, **missed**", at(due)),
        (Some(due), None) if facts.now_us > due => format!("{}, **over**", at(due)),
        (Some(due), None) => format!("{}, in {} hours", at(due), (due - facts.now_us) / 3_600_000_000),
    };
    item(out, "to be notified by", &said);
    item(out, "authority notified", &or_open(progress.notified_us));
    if let Some(reasons) = &incident.delay_reasons {
        item(out, "reasons for the delay (Article 33(1))", &line(reasons));
    } else if due.is_some_and(|due| progress.notified_us.unwrap_or(facts.now_us) > due) {
        item(out, "reasons for the delay (Article 33(1))", "**[why not within 72 hours]**");
    }
    item(out, "people concerned told (Article 34)", &or_open(progress.subjects_notified_us));
    item(out, "closed", &or_open(progress.closed_us));
    out.push('\n');
}

fn nature(facts: &Facts<'_>, out: &mut String) {
    let incident = facts.incident;
    out.push_str("## Nature of the breach (Article 33(3)(a))\n\n");
    let kind = match incident.progress.verdict {
        Verdict::Open => "suspected; nobody has judged it yet",
        Verdict::FalsePositive => "judged a false alarm",
        Verdict::Benign => "judged to have been allowed",
        Verdict::Incident => "confirmed",
    };
    item(out, "status", kind);
    item(out, "kind", "confidentiality: access to personal data beyond what is usual or allowed");
    let actor = format!("{} in database {}", code(&incident.actor), code(&incident.database));
    item(out, "who", &actor);
    let how: Vec<&str> = facts.auth.iter().map(|auth| established(auth)).collect();
    let how = if how.is_empty() { "not in the log of that time".to_owned() } else { how.join("; ") };
    item(out, "how the actor was established", &how);
    item(out, "severity", incident.severity.as_str());
    item(out, "first alert", &at(incident.first_us));
    item(out, "last alert", &at(incident.last_us));
    if let Some((first, last)) = facts.evidence.span_us {
        item(out, "first access counted", &at(first));
        item(out, "last access counted", &at(last));
    }
    out.push_str(
        "\n| rule | alerts | severity | at least | allowed | within | what it said |\n|---|---|---|---|---|---|---|\n",
    );
    for signal in facts.signals {
        let within = if signal.window_s > 0 { format!("{} s", signal.window_s) } else { "–".to_owned() };
        out.push_str(&format!(
            "| {} | {} | {} | {} | {} | {within} | {} |\n",
            signal.rule,
            signal.signals,
            signal.severity,
            signal.observed,
            signal.threshold,
            line(&signal.message).replace('|', "/"),
        ));
    }
    out.push('\n');
}

fn numbers(facts: &Facts<'_>, out: &mut String) {
    let evidence = facts.evidence;
    let records = &evidence.records;
    out.push_str("## Categories and approximate numbers (Article 33(3)(a))\n\n");
    out.push_str(&format!(
        "Everything that this actor did with protected data from {} (the beginning of the first alert's window) to {}; not \
         all of it need be part of the breach.\n\n",
        at(facts.incident.since_us),
        at(facts.until_us),
    ));
    let mut people = format!("{} different people", evidence.people);
    if evidence.more_people > 0 {
        people.push_str(&format!(", and up to {} more that single statements went beyond", evidence.more_people));
    }
    if evidence.unknown_rows > 0 {
        people.push_str(&format!(
            "; {} records are of people whom the log does not know, so the number may be higher",
            evidence.unknown_rows
        ));
    }
    item(out, "people concerned", &people);
    let released = records.clear + records.masked + records.sealed + records.light;
    item(out, "records released", &format!("{released}, by {} statements", evidence.statements));
    item(out, "of these in clear", &format!("{} (columns of level confidential or restricted)", records.clear));
    item(out, "of these masked only", &records.masked.to_string());
    item(out, "of these sealed only", &format!("{} (encrypted; unintelligible without the key)", records.sealed));
    if records.light > 0 {
        item(out, "of these less protected columns only", &records.light.to_string());
    }
    item(out, "of these exported", &evidence.exported.to_string());
    if records.changed > 0 {
        item(out, "records written or deleted", &records.changed.to_string());
    }
    if records.unseen > 0 {
        item(out, "records by code that the log cannot see into", &records.unseen.to_string());
    }
    let tags: Vec<&str> = facts.data().into_iter().map(data).collect();
    let tags =
        if tags.is_empty() { "**[the policy gives these columns no kind]**".to_owned() } else { tags.join(", ") };
    item(out, "categories of data", &tags);
    item(out, "categories of people", "**[patients, employees, customers, …]**");
    out.push_str("\n| column | kind | level | clear | masked | sealed | written |\n|---|---|---|---|---|---|---|\n");
    for (name, shown) in &evidence.columns {
        let category = facts.categories.get(name);
        let kind = category.and_then(|category| category.data).unwrap_or("–");
        let level = category.map_or("–", |category| category.level);
        out.push_str(&format!(
            "| {} | {kind} | {level} | {} | {} | {} | {} |\n",
            code(&format!("{}.{}", name.0, name.1)),
            shown.clear,
            shown.masked,
            shown.sealed,
            shown.written,
        ));
    }
    out.push('\n');
}

fn contact(facts: &Facts<'_>, out: &mut String) {
    let organization = facts.organization;
    out.push_str("## Contact (Article 33(3)(b))\n\n");
    item(out, "controller", &or_blank(organization.name.as_ref(), "[organization] name in pgveil.toml"));
    item(out, "data protection officer", &or_blank(organization.dpo.as_ref(), "[organization] dpo in pgveil.toml"));
    item(out, "further information", &or_blank(organization.contact.as_ref(), "[organization] contact in pgveil.toml"));
    item(out, "sees to it", &or_blank(facts.incident.owner.as_ref(), "owner"));
    out.push('\n');
}

fn consequences(facts: &Facts<'_>, out: &mut String) {
    out.push_str("## Likely consequences (Article 33(3)(c))\n\n");
    let records = &facts.evidence.records;
    for tag in facts.data() {
        item(out, words::data(tag), consequence(tag));
    }
    if records.clear == 0 && records.unseen == 0 {
        out.push_str("- Of columns of level confidential or restricted, none was shown in clear.\n");
    }
    out.push_str("- **[how likely and how severe these are here]**\n\n");
}

fn measures(facts: &Facts<'_>, out: &mut String) {
    out.push_str("## Measures (Article 33(3)(d))\n\nTaken by pgveil:\n\n");
    let (mut ours, mut theirs) = (String::new(), String::new());
    for change in facts.history {
        let detail = &change.detail;
        let text = |name: &str| detail[name].as_str().map(line);
        if change.change == "signal" {
            let said = text("message").unwrap_or_default();
            ours.push_str(&format!("- {}: alert: {said}\n", at(change.at_us)));
            continue;
        }
        let when = detail["at_us"].as_i64().unwrap_or(change.at_us);
        theirs.push_str(&format!("- {}: {}, by {}", at(when), change.change.replace('_', " "), code(&change.by)));
        for name in ["note", "delay_reason", "root_cause"] {
            if let Some(said) = text(name) {
                theirs.push_str(&format!("; {}: {said}", name.replace('_', " ")));
            }
        }
        theirs.push('\n');
    }
    for (refused, count) in &facts.evidence.refusals {
        ours.push_str(&format!(
            "- {} to {}: {} statements refused ({refused})\n",
            at(count.first_us),
            at(count.last_us),
            count.count,
        ));
    }
    out.push_str(if ours.is_empty() { "- none\n" } else { &ours });
    out.push_str("\nTaken by people:\n\n");
    out.push_str(if theirs.is_empty() { "- none yet\n" } else { &theirs });
    out.push('\n');
    item(out, "cause", &or_blank(facts.incident.root_cause.as_ref(), "root cause"));
    item(out, "proposed", "**[what will keep it from happening again, and what mitigates its effects]**");
    out.push('\n');
}

fn hipaa(facts: &Facts<'_>, out: &mut String) {
    let progress = &facts.incident.progress;
    out.push_str("## HIPAA (45 CFR 164.404–408)\n\n");
    item(out, "discovered", &or_open(progress.aware_us));
    let due = progress.aware_us.map(|aware| aware.saturating_add(crate::detect::incident::HIPAA_US));
    let due = due.map_or_else(|| "60 days after discovery".to_owned(), at);
    item(out, "people to be told by", &due);
    let people = facts.evidence.people.saturating_add(facts.evidence.more_people);
    let many = match people {
        many if many >= HIPAA_PEOPLE => {
            "**yes**: the Secretary within the same 60 days; the media if they live in one State"
        }
        few if few.saturating_add(facts.evidence.unknown_rows) >= HIPAA_PEOPLE => {
            "**possible**: the records of unknown people decide it"
        }
        _ => "no: the Secretary within 60 days of the year's end",
    };
    item(out, "500 people or more", many);
}
