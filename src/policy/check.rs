//! What concerns several parts of a policy: demands of levels, shared column ids, things written twice.

use std::collections::HashMap;

use super::checked::{Above, Column, Levels, Policy, Purpose, Role, Table};
use super::problem::{At, Place, Problem, suggest};
use super::purpose;
use super::read::File;
use super::rules::{Copies, Level, Mode};
use super::types;
use super::words::level_name;

/// Joins the files and checks them against each other.
pub(super) fn join(files: Vec<File>, whole: &Place, problems: &mut Vec<Problem>) -> Policy {
    let mut once = Once { seen: HashMap::new(), problems };
    let mut levels = Levels::default();
    let (mut tables, mut roles, mut purposes) = (Vec::new(), Vec::new(), Vec::<Purpose>::new());
    let mut vouchers = Vec::new();
    let (mut default_level, mut default_role, mut detect) = (None, None, None);
    let (mut observe, mut copies) = (None, Copies::default());
    let (mut accepted, mut demanded, mut reviewed) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        if let Some(at) = file.observes {
            once.check("mode".into(), &at.place);
            observe = at.value.then_some(at.place);
        }
        if let Some(at) = file.default_level {
            once.check("default_level".into(), &at.place);
            default_level = Some(at);
        }
        if let Some(at) = file.copies {
            once.check("copies".into(), &at.place);
            copies = at.value;
        }
        for At { value: (level, written), place } in file.levels {
            once.check(format!("[levels.{}]", level_name(level)), &place);
            written.over(levels.of_mut(level));
            demanded.extend(written.consent_required.filter(|at| at.value).map(|at| ("consent_required", at.place)));
            demanded.extend(written.retention.map(|at| ("retention", at.place)));
            demanded.extend(written.audit_frequency.map(|at| ("audit_frequency", at.place)));
        }
        for table in file.tables {
            once.check(format!("[tables.\"{}\"]", table.qualified()), &table.place);
            tables.push(table);
        }
        for role in file.roles {
            once.check(format!("[roles.{}]", role.name.value), &role.name.place);
            roles.push(role);
        }
        if let Some(role) = file.default_role {
            once.check("default_role".into(), &role.name.place);
            default_role = Some(role);
        }
        if let Some(at) = file.detect {
            once.check("[detect]".into(), &at.place);
            detect = Some(at.value);
        }
        reviewed.extend(file.reviewed);
        accepted.extend(file.accept_unenforced.into_iter().map(|at| at.value));
        for purpose in file.purposes {
            once.check(format!("[purposes.{}]", purpose.name.value), &purpose.name.place);
            purposes.push(purpose);
        }
        for voucher in file.vouchers {
            once.check(format!("[vouchers.{}]", voucher.value.0), &voucher.place);
            vouchers.extend(voucher.value.1);
        }
        demanded.extend(file.purposes_demand);
    }
    let (mut detect, calendars) = detect.unwrap_or_default();
    let glass = purposes.iter().filter(|purpose| purpose.break_glass);
    detect.break_glass = glass.map(|purpose| purpose.name.value.clone()).collect();
    let mut policy = Policy {
        observe,
        default_level: default_level.as_ref().map_or(Level::Restricted, |at| at.value),
        default_level_place: default_level.map(|at| at.place),
        levels,
        tables,
        roles,
        default_role: default_role.unwrap_or_else(|| nobody(whole)),
        purposes,
        vouchers,
        reviewed,
        copies,
        detect,
        calendars,
        digest: String::new(),
        warnings: Vec::new(),
    };
    policy.warnings.extend(policy.observe.as_ref().map(super::observe::warning));
    if copies == Copies::Allow {
        let copied = "`copies = \"allow\"`: whoever may read a protected plaintext column may make a table of it that hides it from nobody";
        policy.warnings.push(copied.to_owned());
    }
    unenforced(&demanded, &accepted, &mut policy.warnings, problems);
    purpose::check(&policy, problems);
    calendar(&policy, problems);
    voucher(&policy, problems);
    check(&policy, problems);
    policy
}

/// `default_role` when nothing is written: nothing clear.
/// Whoever vouches needs somebody whose signature counts.
fn voucher(policy: &Policy, problems: &mut Vec<Problem>) {
    let roles = policy.roles.iter().chain([&policy.default_role]);
    let vouching = roles.filter_map(|role| role.vouches.as_ref());
    for at in vouching.filter(|_| policy.vouchers.is_empty()) {
        let hint = "add the key of the application that signs: [vouchers.NAME] public_key = \"…\"".to_owned();
        problems.push(Problem::at(&at.place, "a role vouches, and there is nobody whose signature counts", hint));
    }
}

fn nobody(whole: &Place) -> Role {
    Role {
        name: At { value: String::new(), place: whole.clone() },
        member_of: None,
        clearance: Level::Public,
        above: Above::Mask,
        write: None,
        export_sealed: false,
        rows: Vec::new(),
        refuses: Vec::new(),
        max_rows: None,
        accepts_existence: false,
        purpose: None,
        calendar: None,
        peers: None,
        purposes: Vec::new(),
        vouches: None,
    }
}

struct Once<'p> {
    seen: HashMap<String, Place>,
    problems: &'p mut Vec<Problem>,
}

impl Once<'_> {
    fn check(&mut self, what: String, place: &Place) {
        if let Some(first) = self.seen.get(&what) {
            let hint = format!("first written in {}:{}", first.file, first.line);
            self.problems.push(Problem::at(place, format!("{what} is written twice"), hint));
        } else {
            self.seen.insert(what, place.clone());
        }
    }
}

/// What a level demands is enforced or the policy does not load, unless the policy says it knows.
fn unenforced(
    demanded: &[(&'static str, Place)],
    accepted: &[String],
    warnings: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    let mut warned = Vec::new();
    for (what, place) in demanded {
        if !accepted.iter().any(|word| word == what) {
            let hint = format!("remove it, or load it knowingly: accept_unenforced = [\"{what}\"]");
            problems.push(Problem::at(place, format!("`{what}` is not enforced by this version"), hint));
        } else if !warned.contains(what) {
            warned.push(what);
            warnings.push(format!("`{what}` is written but not enforced by this version"));
        }
    }
}

fn check(policy: &Policy, problems: &mut Vec<Problem>) {
    for filter in &policy.default_role.rows {
        let hint = "give the login an entry of its own: [roles.NAME.rows]".to_owned();
        problems.push(Problem::at(&filter.table.place, "default_role cannot have row filters", hint));
    }
    let purposes = policy.purposes.iter().flat_map(|purpose| &purpose.rows);
    for filter in policy.roles.iter().flat_map(|role| &role.rows).chain(purposes) {
        if !policy.tables.iter().any(|table| table.qualified() == filter.table.value) {
            let names: Vec<String> = policy.tables.iter().map(Table::qualified).collect();
            let hint = suggest(&filter.table.value, names.iter().map(String::as_str), "list it under [tables]");
            let message = format!("rows are filtered of {}, which the policy does not list", filter.table.value);
            problems.push(Problem::at(&filter.table.place, message, hint));
        }
    }
    for table in &policy.tables {
        for column in &table.columns {
            demands(policy, table, column, problems);
            sealing(policy, table, column, problems);
        }
        if let Some(subject) = &table.subject {
            let sealed = table.columns.iter().any(|c| c.name.value == subject.key.value && c.sealing.is_some());
            if sealed {
                let hint = "choose a key that is not encrypted, such as the primary key".to_owned();
                let message = format!("the subject key {}.{} is encrypted", table.qualified(), subject.key.value);
                problems.push(Problem::at(&subject.key.place, message, hint));
            }
        }
    }
}

/// What roles say of their calendars.
fn calendar(policy: &Policy, problems: &mut Vec<Problem>) {
    for at in policy.roles.iter().chain([&policy.default_role]).filter_map(|role| role.calendar.as_ref()) {
        if !policy.calendars.contains_key(&at.value) {
            let known = policy.calendars.keys().map(String::as_str);
            let otherwise = format!("declare it: [detect.calendars.{}]", at.value);
            let hint = suggest(&at.value, known, &otherwise);
            problems.push(Problem::at(&at.place, format!("there is no calendar \"{}\"", at.value), hint));
        }
    }
}

fn demands(policy: &Policy, table: &Table, column: &Column, problems: &mut Vec<Problem>) {
    // A line that already has a problem says nothing reliable about encryption.
    let unread = problems.iter().any(|p| p.file == column.name.place.file && p.line == column.name.place.line);
    if policy.levels.of(column.level).encryption_required && column.sealing.is_none() && !unread {
        let message = format!(
            "{}.{} is {} and that level demands encryption",
            table.qualified(),
            column.name.value,
            level_name(column.level)
        );
        let hint = "add encrypt = \"randomized\" (or \"deterministic\" to search it), or lower its level".to_owned();
        problems.push(Problem::at(&column.name.place, message, hint));
    }
}

fn sealing(policy: &Policy, table: &Table, column: &Column, problems: &mut Vec<Problem>) {
    let Some(sealing) = &column.sealing else { return };
    let name = format!("{}.{}", table.qualified(), column.name.value);
    if let Some(ty) = &sealing.ty
        && let Some((why, hint)) = types::unfit(ty.value, sealing.mode, sealing.accepts_equality)
    {
        problems.push(Problem::at(&ty.place, format!("{name}: {why}"), hint.to_owned()));
    }
    let Some(same_as) = &sealing.same_as else { return };
    let mut wrong = |message: String, hint: Option<String>| problems.push(Problem::at(&same_as.place, message, hint));
    let Some((_, other)) = policy.column(&same_as.value) else {
        let names: Vec<String> = policy
            .tables
            .iter()
            .flat_map(|t| t.columns.iter().map(move |c| format!("{}.{}", t.qualified(), c.name.value)))
            .collect();
        let hint = suggest(&same_as.value, names.iter().map(String::as_str), "name a column of this policy");
        return wrong(format!("`same_as` names {}, which the policy does not list", same_as.value), hint);
    };
    let Some(theirs) = &other.sealing else {
        return wrong(format!("`same_as` names {}, which is not encrypted", same_as.value), None);
    };
    if sealing.mode != Mode::Deterministic || theirs.mode != Mode::Deterministic {
        let hint = "encrypt = \"deterministic\" on both".to_owned();
        wrong(format!("{name} and {} can only share an id when both are deterministic", same_as.value), Some(hint));
    } else if theirs.same_as.is_some() {
        let hint = "name the column at the end of the chain".to_owned();
        wrong(format!("`same_as` names {}, which itself has same_as", same_as.value), Some(hint));
    } else if column.level != other.level {
        let hint = format!("level = \"{}\" on both", level_name(other.level.max(column.level)));
        wrong(format!("{name} and {} share an id but not a level", same_as.value), Some(hint));
    } else if let (Some(ours), Some(theirs)) = (&sealing.ty, &theirs.ty)
        && ours.value.kind.code() != theirs.value.kind.code()
    {
        wrong(format!("{name} and {} share an id but not a type", same_as.value), None);
    }
}
