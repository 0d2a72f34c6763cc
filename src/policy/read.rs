//! The sections of a policy file, read into checked parts. What concerns one key is checked here; what concerns
//! several tables or levels in `check`.

use super::checked::{Above, Canary, Column, Demands, Purpose, Role, RowFilter, Sealing, Subject, Table};
use super::problem::{At, Place, suggest};
use super::purpose::Pattern;
use super::reader::Section;
use super::rules::{Copies, Level, Mode, OnFailure, Persons, StatementClass};
use super::voucher::Voucher;
use super::words;
use super::{detect, types};
use crate::detect::Thresholds;
use crate::mask::Mask;
use crate::sql;
use crate::sql::lexer::TokenKind;
use crate::wire::types::SqlType;

/// What one file says; `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) observes: Option<At<bool>>,
    pub(super) default_level: Option<At<Level>>,
    pub(super) copies: Option<At<Copies>>,
    pub(super) accept_unenforced: Vec<At<String>>,
    pub(super) levels: Vec<At<(Level, Written)>>,
    pub(super) tables: Vec<Table>,
    pub(super) roles: Vec<Role>,
    pub(super) default_role: Option<Role>,
    pub(super) purposes: Vec<Purpose>,
    /// What they demand that this version does not enforce.
    pub(super) purposes_demand: Vec<(&'static str, Place)>,
    pub(super) vouchers: Vec<At<(String, Option<Voucher>)>>,
    pub(super) reviewed: Vec<(String, String)>,
    pub(super) detect: Option<At<(Thresholds, detect::Calendars)>>,
}

/// A `[levels.…]` section: only what is written.
#[derive(Debug, Default)]
pub(super) struct Written {
    encryption_required: Option<bool>,
    access_logging: Option<bool>,
    anonymization_required: Option<bool>,
    pub(super) consent_required: Option<At<bool>>,
    pub(super) retention: Option<At<String>>,
    pub(super) audit_frequency: Option<At<super::checked::AuditFrequency>>,
}

impl Written {
    /// Lays what is written over the built-in demands.
    pub(super) fn over(&self, demands: &mut Demands) {
        demands.encryption_required = self.encryption_required.unwrap_or(demands.encryption_required);
        demands.access_logging = self.access_logging.unwrap_or(demands.access_logging);
        demands.anonymization_required = self.anonymization_required.unwrap_or(demands.anonymization_required);
        demands.consent_required = self.consent_required.as_ref().is_some_and(|at| at.value);
        demands.retention = self.retention.as_ref().map(|at| at.value.clone());
        demands.audit_frequency = self.audit_frequency.as_ref().map(|at| at.value);
    }
}

pub(super) fn file(mut root: Section<'_>) -> File {
    version(&mut root);
    let mut file = File {
        observes: root.choice("mode", words::CONDUCTS),
        default_level: root.choice("default_level", words::LEVELS),
        copies: root.choice("copies", &[("refuse", Copies::Refuse), ("allow", Copies::Allow)]),
        accept_unenforced: accepted(&mut root),
        ..File::default()
    };
    for (name, section) in root.sections("levels") {
        file.levels.extend(level(name, section));
    }
    for (name, section) in root.sections("tables") {
        file.tables.extend(table(name, section));
    }
    if let Some(section) = root.section("default_role") {
        let name = At { value: String::new(), place: section.place().clone() };
        file.default_role = Some(role(name, section));
    }
    for (name, section) in root.sections("roles") {
        file.roles.push(role(name, section));
    }
    for (name, section) in root.sections("purposes") {
        file.purposes.push(purpose(name, section, &mut file.purposes_demand));
    }
    for (name, section) in root.sections("vouchers") {
        file.vouchers.push(voucher(name, section));
    }
    if let Some(section) = root.section("functions") {
        file.reviewed = functions(section);
    }
    if let Some(section) = root.section("detect") {
        let place = section.place().clone();
        file.detect = Some(At { value: detect::thresholds(section), place });
    }
    root.close();
    file
}

/// `[functions]`
fn functions(mut s: Section<'_>) -> Vec<(String, String)> {
    let written = s.texts("reviewed").unwrap_or_default();
    let mut reviewed = Vec::new();
    for at in written {
        match words::qualified(&at.value) {
            Some(name) => reviewed.push(name),
            None => {
                let hint = "name it with its schema and without arguments: reviewed = [\"public.set_updated_at\"]";
                let message = format!("\"{}\" is not the name of a function", at.value);
                s.problem(&at.place, message, hint.to_owned());
            }
        }
    }
    s.close();
    reviewed
}

fn version(root: &mut Section<'_>) {
    if !root.has("version") {
        let place = root.place().clone();
        root.problem(&place, "the file does not say which version it is", "version = 1".to_owned());
    }
    root.number("version", 1..=1);
}

/// The demands that this version reads but does not enforce.
pub(super) const UNENFORCED: &[&str] = &["consent_required", "retention", "audit_frequency"];

fn accepted(root: &mut Section<'_>) -> Vec<At<String>> {
    let accepted = root.texts("accept_unenforced").unwrap_or_default();
    for at in accepted.iter().filter(|at| !UNENFORCED.contains(&at.value.as_str())) {
        let hint = suggest(&at.value, UNENFORCED.iter().copied(), &format!("one of: {}", UNENFORCED.join(", ")));
        root.problem(&at.place, format!("`accept_unenforced` cannot contain \"{}\"", at.value), hint);
    }
    accepted
}

fn level(name: At<String>, mut s: Section<'_>) -> Option<At<(Level, Written)>> {
    let written = Written {
        encryption_required: s.flag("encryption_required").map(|at| at.value),
        access_logging: s.flag("access_logging").map(|at| at.value),
        anonymization_required: s.flag("anonymization_required").map(|at| at.value),
        consent_required: s.flag("consent_required"),
        retention: period(&mut s),
        audit_frequency: s.choice("audit_frequency", words::FREQUENCIES),
    };
    s.close();
    let names = words::LEVELS.iter().map(|(name, _)| *name);
    match words::LEVELS.iter().find(|(word, _)| *word == name.value) {
        Some((_, level)) => Some(At { value: (*level, written), place: name.place }),
        None => {
            let hint = suggest(&name.value, names, "levels are public, internal, confidential, restricted");
            s.problem(&name.place, format!("there is no level \"{}\"", name.value), hint);
            None
        }
    }
}

fn period(s: &mut Section<'_>) -> Option<At<String>> {
    let text = s.text("retention")?;
    let calendar = text.value.starts_with('P') && !text.value.contains('T');
    match text.value.parse::<jiff::Span>() {
        Ok(span) if calendar && span.is_positive() => Some(text),
        _ => {
            let hint = "an ISO 8601 calendar period such as \"P7Y\" or \"P90D\"".to_owned();
            s.problem(&text.place, format!("`retention` in [{}] is not a period", s.path()), hint);
            None
        }
    }
}

fn purpose(name: At<String>, mut s: Section<'_>, demand: &mut Vec<(&'static str, Place)>) -> Purpose {
    if !s.has("basis") {
        let bases: Vec<&str> = words::BASES.iter().map(|(word, _)| *word).collect();
        s.problem(s.place(), format!("[{}] has no basis", s.path()), format!("one of: {}", bases.join(", ")));
    }
    let basis = s.choice("basis", words::BASES);
    demand.extend(basis.filter(|at| at.value).map(|at| ("consent_required", at.place)));
    s.text("consent_type");
    let clearance = s.choice("clearance", words::LEVELS).map(|at| at.value);
    let applications = s.text_or_texts("application_name").unwrap_or_default();
    let tags = s.named_texts("comment");
    let purpose = Purpose {
        name,
        clearance,
        rows: rows(&mut s),
        break_glass: s.flag("break_glass").is_some_and(|at| at.value),
        applications: applications.iter().map(|at| Pattern::new(&at.value)).collect(),
        tags: tags.into_iter().map(|(key, pattern)| (key.value, Pattern::new(&pattern.value))).collect(),
    };
    s.close();
    purpose
}

fn voucher(name: At<String>, mut s: Section<'_>) -> At<(String, Option<Voucher>)> {
    let key = s.text("public_key");
    let voucher = key.as_ref().and_then(|key| Voucher::new(&name.value, &key.value));
    if voucher.is_none() {
        let place = key.map_or_else(|| s.place().clone(), |key| key.place);
        let hint = "public_key = \"…\", what `openssl pkey -in key.pem -pubout -outform DER | tail -c 32 | base64` prints of an Ed25519 key";
        s.problem(&place, format!("[{}] has no public_key that can be read", s.path()), hint.to_owned());
    }
    s.close();
    At { value: (name.value, voucher), place: name.place }
}

/// `vouches = true`, `persons = "clear"`
fn vouches(s: &mut Section<'_>) -> Option<At<Persons>> {
    let vouches = s.flag("vouches");
    let persons = s.choice("persons", &[("pseudonym", Persons::Pseudonym), ("clear", Persons::Clear)]);
    match (vouches.filter(|at| at.value), persons) {
        (Some(at), persons) => Some(At { value: persons.map_or(Persons::Pseudonym, |at| at.value), place: at.place }),
        (None, Some(persons)) => {
            let hint = "add vouches = true, or remove it".to_owned();
            s.problem(&persons.place, format!("`persons` in [{}] is of nobody: it may not vouch", s.path()), hint);
            None
        }
        (None, None) => None,
    }
}

fn role(name: At<String>, mut s: Section<'_>) -> Role {
    if !s.has("clearance") {
        let hint = "clearance = \"public\", \"internal\", \"confidential\" or \"restricted\"".to_owned();
        s.problem(s.place(), format!("[{}] has no clearance", s.path()), hint);
    }
    let clearance = s.choice("clearance", words::LEVELS).map_or(Level::Public, |at| at.value);
    let member_of = s.text("member_of");
    let export_sealed = s.choice("export", &[("sealed", ())]).is_some();
    let role = Role {
        member_of: member_of.filter(|_| !name.value.is_empty()),
        name,
        clearance,
        above: s.choice("above", words::ABOVE).map_or(Above::Mask, |at| at.value),
        write: s.flag("write").map(|at| at.value),
        export_sealed,
        rows: rows(&mut s),
        refuses: refuses(&mut s),
        max_rows: s.number("max_rows", 1..=i64::MAX as u64).map(|at| at.value),
        accepts_existence: accepts(&mut s, "existence"),
        purpose: s.text("purpose"),
        calendar: s.text("calendar"),
        peers: s.text("peers").map(|at| at.value.into()),
        purposes: s.texts("purposes").unwrap_or_default(),
        vouches: vouches(&mut s),
    };
    s.close();
    role
}

/// `refuse = ["write", …]`
fn refuses(s: &mut Section<'_>) -> Vec<StatementClass> {
    let words = StatementClass::WORDS;
    let mut found = Vec::new();
    for at in s.texts("refuse").unwrap_or_default() {
        match words.iter().find(|(word, _)| *word == at.value) {
            Some((_, class)) => found.push(*class),
            None => {
                let names = || words.iter().map(|(word, _)| *word);
                let hint = suggest(&at.value, names(), &format!("of: {}", names().collect::<Vec<_>>().join(", ")));
                s.problem(&at.place, format!("`refuse` cannot contain \"{}\"", at.value), hint);
            }
        }
    }
    found
}

/// `accept_leakage = ["…"]`, where there is one word to accept.
fn accepts(s: &mut Section<'_>, word: &'static str) -> bool {
    let leakage = s.texts("accept_leakage").unwrap_or_default();
    for at in leakage.iter().filter(|at| at.value != word) {
        let message = format!("`accept_leakage` cannot contain \"{}\"", at.value);
        s.problem(&at.place, message, format!("accept_leakage = [\"{word}\"]"));
    }
    leakage.iter().any(|at| at.value == word)
}

/// `[roles.….rows]`: a condition for each table.
fn rows(s: &mut Section<'_>) -> Vec<RowFilter> {
    let written = s.named_texts("rows");
    let mut filters = Vec::new();
    for (table, condition) in written {
        match condition_objection(&condition.value) {
            None => filters.push(RowFilter { table, condition: condition.value.trim().into() }),
            Some(why) => {
                let message = format!("the rows of {} for [{}]: {why}", table.value, s.path());
                let hint = "one SQL condition on the table's columns, such as \"closed_at is null\"".to_owned();
                s.problem(&condition.place, message, hint);
            }
        }
    }
    filters
}

/// Why a text cannot stand in parentheses behind WHERE. Whether it is a condition is PostgreSQL's to say.
fn condition_objection(text: &str) -> Option<&'static str> {
    let Ok(tokens) = sql::lex(text, CONDITION_TOKENS_MAX) else {
        return Some("the condition cannot be cut into tokens, or is too long");
    };
    let mut depth = 0usize;
    for token in &tokens {
        match token.kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') if depth == 0 => return Some("a parenthesis is closed that was not opened"),
            TokenKind::Punct(b')') => depth -= 1,
            TokenKind::Punct(b';') => return Some("a condition has no semicolon"),
            TokenKind::Param(_) => return Some("a condition has no parameters"),
            _ => {}
        }
    }
    // What ends in a comment would hide what stands behind it.
    match tokens.last() {
        None => Some("the condition is empty"),
        Some(_) if depth > 0 => Some("a parenthesis is not closed"),
        Some(last) if !text[last.span.end as usize..].trim().is_empty() => {
            Some("a comment stands behind the condition")
        }
        Some(_) => None,
    }
}

/// Tokens of one condition.
const CONDITION_TOKENS_MAX: usize = 10_000;

fn table(name: At<String>, mut s: Section<'_>) -> Option<Table> {
    let subject = s.section("subject").and_then(subject);
    let columns = s.sections("columns").into_iter().map(|(name, section)| column(name, section)).collect();
    let canaries = canaries(&mut s, subject.is_some());
    let triggers_reviewed = s.flag("triggers_reviewed").is_some_and(|at| at.value);
    for later in ["retention", "on_erase"] {
        if s.has(later) {
            let message = format!("`{later}` in [{}] is not in this version", s.path());
            s.problem(&s.place_of(later), message, "remove it; what is written must be enforced".to_owned());
            s.skip(later);
        }
    }
    s.close();
    let Some((schema, table)) = words::qualified(&name.value) else {
        let hint = "name it with its schema, like [tables.\"public.users\"]".to_owned();
        s.problem(&name.place, format!("\"{}\" is not the name of a table", name.value), hint);
        return None;
    };
    Some(Table { schema, name: table, place: name.place, subject, canaries, columns, triggers_reviewed })
}

/// `canaries = ["4711"]`: keys of people that nobody has a reason to look at.
fn canaries(s: &mut Section<'_>, has_subject: bool) -> Vec<At<Canary>> {
    let written = s.texts("canaries").unwrap_or_default();
    if s.has("canaries") && !has_subject {
        let message = format!("[{}] has canaries and no subject", s.path());
        let hint = "add subject = { kind = \"user\", key = \"id\" }: canaries are keys of its people".to_owned();
        s.problem(&s.place_of("canaries"), message, hint);
    }
    written.into_iter().map(|at| at.map(Canary::new)).collect()
}

fn subject(mut s: Section<'_>) -> Option<Subject> {
    let kind = s.text("kind");
    let key = s.text("key");
    for (missing, key) in [(kind.is_none(), "kind"), (key.is_none(), "key")] {
        if missing && !s.has(key) {
            let hint = "subject = { kind = \"user\", key = \"user_id\" }".to_owned();
            s.problem(s.place(), format!("`{key}` in [{}] is missing", s.path()), hint);
        }
    }
    s.close();
    Some(Subject { kind: kind?.value.into(), key: key? })
}

fn column(name: At<String>, mut s: Section<'_>) -> Column {
    if !s.has("level") {
        let hint = "level = \"restricted\" (or public, internal, confidential)".to_owned();
        s.problem(s.place(), format!("[{}] has no level", s.path()), hint);
    }
    let level = s.choice("level", words::LEVELS).map_or(Level::Restricted, |at| at.value);
    let data = s.choice("data", words::DATA).map(|at| at.value);
    let mask = mask(&mut s);
    let sealing = sealing(&mut s);
    if sealing.is_some() && matches!(mask, Mask::Noise(_)) {
        let hint = "mask = \"bucket:N\" (numbers), \"year\", \"month\" or \"decade\" (dates), or \"null\"";
        s.problem(&s.place_of("mask"), "`noise` is for columns that are not encrypted", hint.to_owned());
    }
    later(&mut s);
    s.close();
    Column { name, level, data, sealing, mask }
}

fn mask(s: &mut Section<'_>) -> Mask {
    let Some(word) = s.text("mask") else { return Mask::Null };
    words::mask(&word.value).unwrap_or_else(|| {
        let known = format!("one of: {} (also {})", words::MASK_NAMES.join(", "), words::MASK_ARGUMENTS);
        let hint = match word.value.split(':').next() {
            Some("bucket") => Some("bucket:N, where N is a whole number from 1".to_owned()),
            Some("noise") => Some("noise:N, where N is a whole number from 1".to_owned()),
            _ => suggest(&word.value, words::MASK_NAMES.iter().copied(), &known),
        };
        s.problem(&word.place, format!("there is no mask \"{}\"", word.value), hint);
        Mask::Null
    })
}

/// `Err` marks the modes of later versions.
const MODES: &[(&str, Result<Mode, ()>)] = &[
    ("randomized", Ok(Mode::Randomized)),
    ("deterministic", Ok(Mode::Deterministic)),
    ("searchable", Err(())),
    ("ordered", Err(())),
    ("match", Err(())),
];

fn sealing(s: &mut Section<'_>) -> Option<Sealing> {
    let written = s.has("encrypt");
    let mode = s.choice("encrypt", MODES);
    let ty = logical_type(s);
    let on_failure = s.choice("on_failure", words::ON_FAILURE);
    let was = full_name(s, "was");
    let same_as = full_name(s, "same_as");
    let accepts_equality = accepts(s, "equality");
    if !written {
        for key in ["as", "on_failure", "was", "same_as", "accept_leakage"] {
            if s.has(key) {
                let message = format!("`{key}` in [{}] means nothing without `encrypt`", s.path());
                s.problem(&s.place_of(key), message, "add encrypt = \"randomized\", or remove it".to_owned());
            }
        }
        return None;
    }
    let mode = mode?;
    let value = match mode.value {
        Ok(value) => value,
        Err(()) => {
            let hint =
                "\"deterministic\" supports = IN GROUP BY JOIN and UNIQUE; \"randomized\" hides the most".to_owned();
            let message = format!("this way to encrypt is not in this version ([{}])", s.path());
            s.problem(&mode.place, message, hint);
            return None;
        }
    };
    Some(Sealing {
        mode: value,
        ty,
        on_failure: on_failure.map_or(OnFailure::Error, |at| at.value),
        was,
        same_as,
        accepts_equality,
        place: mode.place,
    })
}

fn logical_type(s: &mut Section<'_>) -> Option<At<SqlType>> {
    let text = s.text("as")?;
    match SqlType::parse(&text.value) {
        Ok(ty) => Some(At { value: ty, place: text.place }),
        Err(reason) => {
            let hint = suggest(&text.value, types::NAMES.iter().copied(), types::SEALABLE);
            s.problem(&text.place, reason, hint);
            None
        }
    }
}

fn full_name(s: &mut Section<'_>, key: &'static str) -> Option<At<String>> {
    let text = s.text(key)?;
    if text.value.split('.').count() >= 3 {
        return Some(text);
    }
    let hint = format!("{key} = \"public.users.email\"");
    s.problem(&text.place, format!("`{key}` in [{}] is not schema.table.column", s.path()), hint);
    None
}

/// Keys of the design that this version must refuse rather than ignore.
fn later(s: &mut Section<'_>) {
    const LATER: &[(&str, &str)] = &[
        ("row_bound", "reserved: envelopes are bound to their column, not to their row"),
        ("subject_key", "per-subject keys come in a later version"),
        ("pad", "length hiding comes in a later version"),
        ("domain", "equality domains come in a later version; deterministic columns share an id by same_as"),
    ];
    for (key, hint) in LATER {
        if s.has(key) {
            let place: Place = s.place_of(key);
            s.problem(&place, format!("`{key}` in [{}] is not in this version", s.path()), (*hint).to_owned());
            s.skip(key);
        }
    }
}
