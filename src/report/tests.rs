//! Drafts are complete, and say nothing that the log does not.

use super::*;
use crate::detect::Severity;
use crate::detect::incident::{Progress, Step};

const H: i64 = 3_600_000_000;

fn incident(progress: Progress) -> Incident {
    Incident {
        id: 7,
        deployment: "00".repeat(16),
        actor: "eve`".to_owned(),
        database: "app".to_owned(),
        rules: vec!["bulk".to_owned()],
        severity: Severity::High,
        signals: 2,
        first_us: H,
        last_us: 2 * H,
        since_us: 0,
        progress,
        owner: None,
        root_cause: None,
        delay_reasons: None,
        notes: None,
        drill: false,
    }
}

fn draft(incident: &Incident, now_us: i64, which: fn(&Facts<'_>) -> String) -> String {
    let column = |name: &str| ("public.people".to_owned(), name.to_owned());
    let categories: Categories = [("mail", Some("pii")), ("note", Some("phi")), ("nick", None)]
        .map(|(n, data)| (column(n), Category { level: "restricted", data }))
        .into();
    let mut evidence = synthetic(&categories, 0, H);
    evidence.unknown_rows = 400;
    let detail = serde_json::json!({"at_us": 3 * H, "note": "two\nlines"});
    let history = [
        Change {
            at_us: H,
            by: "pgveil".to_owned(),
            change: "signal".to_owned(),
            detail: serde_json::json!({"message": "many | rows"}),
        },
        Change { at_us: 3 * H, by: "R. Vos".to_owned(), change: "aware".to_owned(), detail },
    ];
    let organization = Organization { name: Some("Hospital".to_owned()), ..Organization::default() };
    which(&Facts {
        incident,
        signals: &[],
        history: &history,
        evidence: &evidence,
        auth: &["scram-sha-256".to_owned()],
        until_us: 4 * H,
        categories: &categories,
        organization: &organization,
        now_us,
    })
}

#[test]
fn the_authority_is_told_all_that_article_33_asks_for() {
    let aware = Progress::detected(H).after(&Step::Aware, 3 * H, 3 * H).unwrap();
    let text = draft(&incident(aware), 5 * H, art33);
    for wanted in [
        "INC-7",
        "Article 33(3)(a)",
        "Article 33(3)(b)",
        "Article 33(3)(c)",
        "Article 33(3)(d)",
        "- **who:** `eve'` in database `app`",
        "password, proved to the server",
        "- **aware (Article 33(1)):** 1970-01-01 03:00:00 UTC",
        "in 70 hours",
        "137 different people; 400 records are of people whom the log does not know",
        "- **records released:** 400, by 9 statements",
        "- **of these in clear:** 250 (",
        "- **of these masked only:** 120",
        "- **of these sealed only:** 30",
        "- **of these exported:** 250",
        "health data (Article 9), identity and contact data",
        "| `public.people.mail` | pii | restricted | 250 | 120 | 30 | 0 |",
        "- **controller:** Hospital",
        "**[[organization] dpo in pgveil.toml]**",
        "1970-01-01 03:00:00 UTC: aware, by `R. Vos`; note: two lines",
        "**possible**: the records of unknown people decide it",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("DRILL"));
    let late = draft(&incident(aware), 76 * H, art33);
    assert!(late.contains("**over**") && late.contains("**[why not within 72 hours]**"), "{late}");
}

#[test]
fn people_are_told_under_the_founding_headings_and_not_who_it_was() {
    let mut incident = incident(Progress::detected(H));
    incident.drill = true;
    let text = draft(&incident, 5 * H, art34);
    for wanted in [
        "# Important: Data Breach Notification",
        "## What happened",
        "## When",
        "## Data affected",
        "## Actions we have taken",
        "## Actions you should take",
        "## For more information",
        "**DRILL.**",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("eve"));
}
