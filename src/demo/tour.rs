//! The tour: each step shows something and then checks that it is so.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::people::{Person, loads, needles};
use super::stage::{DATABASE, Rows, Stage, Way};
use super::table::render;
use crate::clock::Now;
use crate::error::{Error, Result};

/// The columns shown side by side.
const SHOWN: &str = "select full_name, email, date_of_birth, medical_record_number from users order by id limit 4";

/// `\xfed1…` is how PostgreSQL prints an envelope.
const ENVELOPE: &str = "\\xfed1";

/// Walks through all steps.
///
/// # Errors
/// The first claim that does not hold, or what kept it from being checked.
pub(super) fn walk(stage: &Stage, people: &[Person]) -> Result<()> {
    load(stage, people)?;
    side_by_side(stage, people)?;
    search(stage, people)?;
    refusal(stage)?;
    lens(stage, people)?;
    doctor(stage)?;
    dump(stage, people)?;
    alert(stage)?;
    access_log(stage)
}

fn heading(text: &str) {
    println!("\n● {text}");
}

fn claim(holds: bool, what: impl Into<String>) -> Result<()> {
    let what = what.into();
    if holds {
        println!("  ✓ {what}");
        return Ok(());
    }
    Err(Error::Config(format!("this does not hold: {what}")))
}

fn ask(stage: &Stage, role: &str, way: Way, sql: &str) -> Result<Rows> {
    stage.ask(role, way, sql).map_err(|said| Error::Config(format!("{role}: {sql}: {said}")))
}

fn load(stage: &Stage, people: &[Person]) -> Result<()> {
    heading("The application loads its data: COPY … FROM STDIN through pgveil");
    let began = Now::read();
    let mut rows = 0;
    for load in loads(people) {
        stage.load(&load)?;
        let table = load.target.split(' ').next().unwrap_or(load.target);
        let count = ask(stage, "app", Way::Direct, &format!("select count(*) from {table}"))?;
        if count.rows != [[load.rows.to_string()]] {
            return Err(Error::Config(format!("{table}: {} rows were sent, {:?} arrived", load.rows, count.rows)));
        }
        rows += load.rows;
    }
    let ms = Now::read().since_us(began) / 1_000;
    claim(true, format!("{rows} rows about {} people in five tables, sealed on the way, {ms} ms", people.len()))
}

fn side_by_side(stage: &Stage, people: &[Person]) -> Result<()> {
    heading("One query, four answers");
    println!("  {SHOWN}");
    let shown = |title: &str, role: &str, way: Way| -> Result<Rows> {
        let rows = ask(stage, role, way, SHOWN)?;
        println!("\n  {title}\n{}", render(&rows).trim_end());
        Ok(rows)
    };
    let direct = shown("straight from PostgreSQL (its DBA, a stolen disk, a backup):", "app", Way::Direct)?;
    claim(
        direct.rows.len() == 4 && direct.rows.iter().flatten().all(|cell| cell.starts_with(ENVELOPE)),
        "on disk every tagged cell is an envelope",
    )?;
    let app = shown("the application, through pgveil:", "app", Way::Proxy)?;
    let expected: Vec<Vec<String>> = people.iter().take(4).map(clear).collect();
    claim(app.rows == expected, "the application sees its values, without a changed line of code")?;
    let analyst = shown("the analyst, through pgveil:", "analyst", Way::Proxy)?;
    let masked = analyst.rows.iter().zip(&expected).all(|(seen, clear)| {
        let letters = seen[0].starts_with(first_letter(&clear[0])) && seen[0].contains('*') && seen[1].contains("*@");
        let year = seen[2] == "NULL" || seen[2] == format!("{}-01-01", &clear[2][..4]);
        letters && year && seen.iter().zip(clear).all(|(seen, clear)| seen != clear)
    });
    claim(masked && analyst.rows.len() == 4, "the analyst sees masks, in the columns' own types")?;
    let sql = "select a.reason, u.full_name from appointments a join users u on u.id = a.user_id order by a.id limit 2";
    println!("\n  {sql}");
    let support = ask(stage, "support", Way::Proxy, sql)?;
    println!("\n  support, cleared for confidential but not for restricted:\n{}", render(&support).trim_end());
    let two_levels = support.rows.iter().all(|row| row[1].contains('*') && !row[0].contains('*') && row[0] != "NULL");
    claim(two_levels && support.rows.len() == 2, "support sees reasons in clear and names masked, in the same row")
}

fn clear(person: &Person) -> Vec<String> {
    vec![
        person.full_name.clone(),
        person.email.clone(),
        person.date_of_birth.to_string(),
        person.medical_record_number.clone(),
    ]
}

fn first_letter(name: &str) -> &str {
    name.char_indices().nth(1).map_or(name, |(end, _)| &name[..end])
}

fn search(stage: &Stage, people: &[Person]) -> Result<()> {
    heading("Equality search on a sealed column, by its ordinary index");
    let wanted = &people[people.len() / 2];
    let sql = format!("select id, full_name, phone_number from users where email = '{}'", wanted.email);
    println!("  {sql}");
    let found = ask(stage, "app", Way::Proxy, &sql)?;
    println!("{}", render(&found).trim_end());
    let expected = vec![wanted.id.to_string(), wanted.full_name.clone(), wanted.phone_number.clone()];
    claim(found.rows == [expected], "one person found, by a value the server has never seen")
}

fn refusal(stage: &Stage) -> Result<()> {
    heading("What cannot be answered is refused, never answered wrongly");
    let sql = "select id from users where upper(full_name) like 'A%'";
    println!("  {sql}");
    let said = stage.ask("app", Way::Proxy, sql).err().unwrap_or_default();
    println!("{}", said.lines().map(|line| format!("    {line}\n")).collect::<String>().trim_end());
    claim(said.contains("full_name") && said.contains("PV0"), "the refusal names the column and the way out")?;
    let denied = stage.ask("analyst", Way::Proxy, "select id from users where email = 'a@example.org'");
    claim(denied.is_err(), "the analyst may not search what he may not see")
}

fn lens(stage: &Stage, people: &[Person]) -> Result<()> {
    heading("Plaintext columns and whole rows: PostgreSQL itself shows the analyst a lens");
    ask(stage, "app", Way::Proxy, "update users set closed_at = created_at + interval '300 days' where id % 37 = 0")?;
    let sql = "select u.id, u.nickname, u.created_at, m.diagnosis from users u join medical_records m on m.patient_id = u.id \
               order by u.id, m.id limit 3";
    println!("  {sql}");
    let shown = |role: &str| -> Result<Rows> {
        let rows = ask(stage, role, Way::Proxy, sql)?;
        println!("\n  {role}:\n{}", render(&rows).trim_end());
        Ok(rows)
    };
    let (app, analyst) = (shown("app")?, shown("analyst")?);
    let masked = app.rows.iter().zip(&analyst.rows).all(|(clear, seen)| {
        let nickname = seen[1].starts_with(first_letter(&clear[1])) && seen[1].contains("**");
        let month = seen[2].starts_with(&format!("{}-01 ", &clear[2][..7]));
        seen[0] == clear[0] && nickname && month && seen[3] == "NULL" && clear[3] != "NULL"
    });
    claim(masked && analyst.rows.len() == 3, "a nickname's first letter, the month of a date, no diagnosis")?;
    let count = |role: &str, sql: &str| Ok::<_, Error>(ask(stage, role, Way::Proxy, sql)?.rows.concat().concat());
    let (all, open) = (count("app", "select count(*) from users")?, count("analyst", "select count(*) from users")?);
    let left = count("app", "select count(*) from users where closed_at is null")?;
    claim(
        open == left && open != all,
        format!("of {all} people {open} exist for the analyst: closed accounts do not"),
    )?;
    let probe = |name: &str| {
        let name = name.replace('\'', "''");
        stage.ask("analyst", Way::Proxy, &format!("select count(*) from users where 1/(nickname <> '{name}')::int = 0"))
    };
    println!("  … where 1/(nickname <> 'a guess')::int = 0");
    let (right, wrong) = (probe(&people[0].nickname), probe("nobody's name"));
    let learns_nothing = matches!((right, wrong), (Ok(a), Ok(b)) if a.rows == b.rows);
    claim(learns_nothing, "a probe that would fail on the right guess learns nothing: it meets the masks")?;
    let direct = stage.ask("analyst", Way::Direct, "select nickname from public.users").err().unwrap_or_default();
    println!("  past the proxy: {}", direct.lines().next().unwrap_or_default());
    claim(direct.contains("permission denied"), "past the proxy there is nothing but the lens")
}

fn doctor(stage: &Stage) -> Result<()> {
    heading("The doctor looks at every column, every role and every path, also past the proxy");
    let role = format!("analyst={}", stage.url("analyst", Way::Direct));
    println!("  pgveil doctor --role analyst=postgresql://…");
    let output = stage.pgveil(&["doctor", "--config", "pgveil.toml", "--role", &role])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let right = |line: &&str| line.trim_start().starts_with('✓');
    let lines: Vec<&str> = said.lines().filter(|line| !right(line) && !line.is_empty()).collect();
    for (at, line) in lines.iter().enumerate() {
        let heading = |line: &&str| !line.starts_with(' ');
        if !heading(line) || !lines.get(at + 1).is_none_or(heading) || line.starts_with("no hole") {
            println!("    {line}");
        }
    }
    let fine = said.lines().filter(right).count();
    println!("    … and {fine} lines of what is as it should be");
    claim(output.status.success() && said.contains("no hole"), "there is no hole")
}

fn dump(stage: &Stage, people: &[Person]) -> Result<()> {
    heading("pg_dump, taken by the superuser past the proxy");
    let dump = stage.dump()?;
    let needles = needles(people);
    let found = needles.iter().filter(|needle| memchr::memmem::find(&dump, needle.as_bytes()).is_some()).count();
    let envelopes = memchr::memmem::find_iter(&dump, b"\\xfed1").count();
    println!(
        "  {} KiB with {envelopes} envelopes; looked for {} names, mail addresses, diagnoses …",
        dump.len() / 1024,
        needles.len()
    );
    claim(found == 0 && envelopes > 7 * people.len(), "not one of them is in the dump")?;
    stage.cluster.sql(DATABASE, "checkpoint")?;
    let file = leaking_file(&stage.cluster.data(), &needles[..needles.len().min(60)])?;
    let leak = file.map(|file| file.display().to_string()).unwrap_or_default();
    claim(leak.is_empty(), format!("nor in the data files, the WAL or the server's log{leak}"))
}

/// A file below `dir` with one of the needles in it.
fn leaking_file(dir: &Path, needles: &[String]) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|source| Error::io(dir.display().to_string(), source))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        // The server may remove a file between the listing and the reading; then there is nothing to find in it.
        let found = if path.is_dir() {
            leaking_file(&path, needles)?
        } else {
            let bytes = fs::read(&path).unwrap_or_default();
            needles.iter().any(|n| memchr::memmem::find(&bytes, n.as_bytes()).is_some()).then_some(path)
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn alert(stage: &Stage) -> Result<()> {
    heading("Somebody reads more than the work needs");
    let sql = "select user_id, subject, body from communications limit 1500";
    println!("  support: {sql}");
    let read = ask(stage, "support", Way::Proxy, sql)?;
    let line = (0..250).find_map(|n| {
        sleep(Duration::from_millis(if n == 0 { 0 } else { 20 }));
        stage.log().lines().find(|line| line.contains("bulk") && line.contains("support")).map(str::to_owned)
    });
    println!("  the proxy's log: {}", line.as_deref().unwrap_or("-").trim());
    claim(read.rows.len() == 1500 && line.is_some(), "more than 100 records within 15 minutes: alert `bulk`")?;
    let metrics = stage.http("/metrics").unwrap_or_default();
    let counted = metrics.lines().find(|l| l.starts_with("pgveil_alerts_total") && l.contains("rule=\"bulk\""));
    claim(counted.is_some_and(|l| !l.ends_with(" 0")), format!("and a metric: {}", counted.unwrap_or("-")))
}

fn access_log(stage: &Stage) -> Result<()> {
    heading("The access log proves itself");
    let verified = stage.pgveil(&["log", "verify", "--config", "pgveil.toml"])?;
    println!("  pgveil log verify: {}", first_line(&verified));
    claim(verified.status.success(), "every record is chained to the one before")?;
    let copy = stage.folder().join("audit-copy");
    let edited = copy_with_one_edit(&stage.folder().join("audit"), &copy)?;
    println!("  a copy, with one byte of {} edited:", edited.display());
    let dir = copy.display().to_string();
    let refused = stage.pgveil(&["log", "verify", "--config", "pgveil.toml", "--dir", &dir])?;
    println!("  pgveil log verify --dir audit-copy: {}", first_line(&refused));
    claim(refused.status.code() == Some(1), "one edited byte is found")
}

fn first_line(output: &std::process::Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}

/// Copies the log and flips the lowest bit of the byte in the middle of its largest file; that file's name.
fn copy_with_one_edit(from: &Path, to: &Path) -> Result<PathBuf> {
    let failed = |source| Error::io("copying the access log", source);
    fs::create_dir_all(to).map_err(failed)?;
    let mut largest: Option<(PathBuf, Vec<u8>)> = None;
    for entry in fs::read_dir(from).map_err(failed)?.flatten().filter(|entry| entry.path().is_file()) {
        if entry.file_name() == "reserve" {
            continue;
        }
        let bytes = fs::read(entry.path()).map_err(failed)?;
        let name = PathBuf::from(entry.file_name());
        fs::write(to.join(&name), &bytes).map_err(failed)?;
        if largest.as_ref().is_none_or(|(_, largest)| largest.len() < bytes.len()) {
            largest = Some((name, bytes));
        }
    }
    let (name, mut bytes) = largest.filter(|(_, b)| !b.is_empty()).ok_or(Error::Bug("the access log is empty"))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(to.join(&name), bytes).map_err(failed)?;
    Ok(name)
}
