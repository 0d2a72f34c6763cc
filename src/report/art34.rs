//! A letter to the people concerned (Article 34 GDPR), with the founding documents' headings.

use super::Facts;
use super::words::{at, consequence, data, or_blank};

/// The draft, Markdown. It says nothing about the actor: that is for the authority.
pub fn art34(facts: &Facts<'_>) -> String {
    let (incident, evidence) = (facts.incident, facts.evidence);
    let mut out = String::new();
    if incident.drill {
        out.push_str("> **DRILL.** Nothing of this has happened. Do not send it.\n\n");
    }
    out.push_str("# Important: Data Breach Notification\n\n");
    out.push_str(&format!(
        "Draft of {} for INC-{}. **[Your own words where there are brackets.]**\n\n",
        at(facts.now_us),
        incident.id
    ));
    out.push_str("## What happened\n\n");
    let seen = if evidence.exported > 0 { "copied" } else { "seen" };
    out.push_str(&format!(
        "Personal data about you may have been {seen} by somebody who should not have done so. **[how]**\n\n"
    ));
    let (first, last) = evidence.span_us.unwrap_or((incident.first_us, incident.last_us));
    out.push_str(&format!("## When\n\nBetween {} and {}.\n\n## Data affected\n\n", at(first), at(last)));
    let tags = facts.data();
    for tag in &tags {
        out.push_str(&format!("- {}\n", data(tag)));
    }
    if tags.is_empty() {
        out.push_str("- **[which data]**\n");
    }
    let records = &evidence.records;
    if records.clear + records.masked + records.unseen + records.light == 0 {
        out.push_str(
            "\nIt was encrypted and is unintelligible to whoever has it: this letter may not be necessary \
             (Article 34(3)(a)).\n",
        );
    }
    out.push_str("\n## What may follow from it\n\n");
    for tag in &tags {
        out.push_str(&format!("- {}\n", consequence(tag)));
    }
    out.push_str("- **[how likely this is]**\n\n## Actions we have taken\n\n");
    match incident.progress.contained_us {
        Some(contained) => out.push_str(&format!("- We stopped it at {}.\n", at(contained))),
        None => out.push_str("- **[what was done to stop it]**\n"),
    }
    if let Some(told) = incident.progress.notified_us {
        out.push_str(&format!("- We told the supervisory authority at {}.\n", at(told)));
    }
    out.push_str("- **[what else]**\n\n## Actions you should take\n\n- **[change passwords, watch accounts, …]**\n\n");
    let organization = facts.organization;
    out.push_str(&format!(
        "## For more information\n\n{}, {}. Data protection officer: {}.\n",
        or_blank(organization.name.as_ref(), "[organization] name in pgveil.toml"),
        or_blank(organization.contact.as_ref(), "[organization] contact in pgveil.toml"),
        or_blank(organization.dpo.as_ref(), "[organization] dpo in pgveil.toml"),
    ));
    out
}
