//! A report as lines for people.
//!
//! In: a [`Report`]. Out: lines without control characters. Never: more than a few hundred.

use super::{Column, Index, LensState, Report, Role, Statement, Verdict};
use crate::event::Access;

/// Lines of one report.
const LINES_MAX: usize = 400;

impl Report {
    /// The report as lines, the decision first.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![decision(self)];
        if let Some(refusal) = &self.refusal {
            lines.push(format!("hint: {}", refusal.hint));
        }
        lines.extend(self.observed.iter().map(|place| {
            format!("observed, not enforced: mode = \"observe\" ({place}); only what concerns sealed columns is done")
        }));
        lines.extend(role(&self.role));
        lines.push(format!("search path: {}", self.search_path.join(", ")));
        for (at, statement) in self.statements.iter().enumerate() {
            let number = if self.statements.len() > 1 { format!(" {}", at + 1) } else { String::new() };
            lines.extend(of_statement(statement, &number, self.refusal.is_some()));
        }
        lines.extend(self.indexes.iter().flatten().map(index));
        let more = lines.len().saturating_sub(LINES_MAX);
        if more > 0 {
            lines.truncate(LINES_MAX);
            lines.push(format!("… and {more} lines more"));
        }
        // A quoted name may hold anything.
        lines.iter().map(|line| line.replace(char::is_control, " ")).collect()
    }
}

fn decision(report: &Report) -> String {
    let rewritten = report.statements.iter().any(|statement| statement.sent.is_some());
    match (report.decision, &report.refusal) {
        (Verdict::Refused, Some(said)) => {
            format!("refused: {} {} (SQLSTATE {})", said.code, said.message, said.sqlstate)
        }
        (Verdict::Refused, None) => "refused".to_owned(),
        (Verdict::Pass, _) => "pass: forwarded as it is".to_owned(),
        (Verdict::Act, _) if rewritten => "act: forwarded rewritten".to_owned(),
        (Verdict::Act, _) => {
            "act: forwarded with the same text; values are sealed on the way in, opened or masked on the way out"
                .to_owned()
        }
        (Verdict::Unknown, _) => {
            let then = if report.role.lens == LensState::Missing { "it is refused" } else { "PostgreSQL answers" };
            format!(
                "unknown: it names what the catalog, as last read, does not have; if it is not there when read again, {then}"
            )
        }
    }
}

fn role(role: &Role) -> Vec<String> {
    let above = match role.above {
        "mask" => "masked",
        "null" => "null",
        _ => "refused",
    };
    let lens = match role.lens {
        LensState::NotNeeded => "no lens needed",
        LensState::InForce => "lens in force",
        LensState::Missing => "its lens is not in force, so what SQL could show more is refused",
    };
    let entry = if role.listed { "" } else { "no entry in the policy, so " };
    let purpose = role.purpose.as_ref().map(|purpose| format!(", for {purpose}")).unwrap_or_default();
    let mut lines = vec![format!(
        "role {}: {entry}{} ({}){purpose}, clearance {}, above it {above}; {lens}",
        role.login, role.entry, role.at, role.clearance
    )];
    if let Some(rows) = role.max_rows {
        lines.push(format!("at most {rows} rows of listed tables a statement"));
    }
    if !role.exists {
        lines.push(format!("note: PostgreSQL has no role {}", role.login));
    }
    lines
}

fn of_statement(statement: &Statement, number: &str, refused: bool) -> Vec<String> {
    let access = match statement.access {
        Some(Access::Read) => " (read)",
        Some(Access::Write) => " (write)",
        Some(Access::Delete) => " (delete)",
        Some(Access::Export) => " (export)",
        Some(Access::Other) | None => "",
    };
    let mut lines = vec![format!("statement{number}{access}: {}", statement.text)];
    for used in &statement.columns {
        lines.extend(column(used));
    }
    if statement.columns.is_empty() && !refused {
        lines.push("  no protected column is used".to_owned());
    }
    for rows in &statement.rows {
        lines.push(format!("  rows of {}: only where {} ({})", rows.relation, rows.condition, rows.at));
    }
    if statement.runs_unseen {
        lines.push("  runs code that cannot be seen into".to_owned());
    }
    lines.extend(statement.subject.iter().map(|subject| format!("  subject: {subject}")));
    lines.extend(statement.sent.iter().map(|sent| format!("  sent: {sent}")));
    lines
}

fn column(column: &Column) -> Vec<String> {
    let mask = column.mask.iter().map(|mask| format!(" with {mask}")).collect::<String>();
    let encrypt = column.encrypt.map_or_else(String::new, |mode| format!("; encrypted {mode}"));
    let through = column.through.iter().map(|view| format!("; through {view}")).collect::<String>();
    vec![
        format!(
            "  {}.{}: {}, {}{mask}{encrypt}{through}",
            column.relation, column.column, column.used, column.treatment
        ),
        format!("    because {}", column.why),
    ]
}

fn index(index: &Index) -> String {
    match (&index.index, &index.create) {
        (Some(name), _) => format!("index: {} is searched by {name}", index.column),
        (None, create) => {
            let create = create.as_deref().unwrap_or("");
            format!("index: {} is searched and no index leads with it: {create}", index.column)
        }
    }
}
