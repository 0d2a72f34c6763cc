//! Definitions through pgveil: what a session defines is known to its next statement, and large objects work.

use crate::support::Site;

const POLICY: &str = r#"
version = 1
default_level = "internal"
[tables."public.users"]
subject = { kind = "user", key = "id" }
[tables."public.users".columns]
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
[roles.app]
clearance = "restricted"
"#;

fn site(name: &str) -> Site {
    Site::new(name).schema("create table users (id int primary key, email varchar(80));").policy(POLICY).start()
}

#[tokio::test]
async fn a_dropped_column_does_not_hide_a_sealed_one() {
    let site = site("dropped");
    let app = site.client("app").await;
    app.batch_execute("insert into users values (1, 'ada@x')").await.unwrap();
    app.batch_execute("create table notes (id int, email text)").await.unwrap();
    app.batch_execute("insert into notes values (1, 'plain')").await.unwrap();
    // No canary: compared with a plain column, the value goes to the server as it is.
    let sql = "select u.id from users u where exists (select from notes n where n.id = u.id and email = 'ada@x')";
    assert!(app.query(sql, &[]).await.unwrap().is_empty(), "the inner table's column is meant");
    let before = app.prepare(sql).await.unwrap();
    // Nothing protected is named; the next statement means another column all the same.
    app.batch_execute("alter table notes drop column email").await.unwrap();
    assert_eq!(app.simple_query(sql).await.unwrap().len(), 3, "the outer table's column is meant: a row between two");
    // The statement prepared before is another one now, and is told so in PostgreSQL's words.
    let again = app.query(&before, &[]).await.unwrap_err();
    assert_eq!(again.code().map(|c| c.code()), Some("0A000"), "{again:?}");
    assert_eq!(app.query(sql, &[]).await.unwrap().len(), 1);
}

#[test]
fn large_objects_of_libpq_work_on_a_protected_database() {
    let site = site("large");
    let (from, to) = (site.path("from.bin"), site.path("to.bin"));
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    std::fs::write(&from, &bytes).unwrap();
    let script = format!(
        "\\lo_import '{}'\nselect lo_get(:LASTOID, 0, 4);\n\\lo_export :LASTOID '{}'\n\\lo_unlink :LASTOID\n",
        from.display(),
        to.display()
    );
    std::fs::write(site.path("large.sql"), script).unwrap();
    let output = site.psql("app", &["-v", "ON_ERROR_STOP=1", "-f", site.path("large.sql").to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\\x00070e15"));
    assert_eq!(std::fs::read(&to).unwrap(), bytes);
}
