//! The README's ten minutes with one's own database, done as written.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgveil::demo::cluster::{Binaries, Cluster, SUPERUSER, free_port};
use pgveil::demo::leash::Leashed;

use crate::support::{http, repository};

/// A newcomer's folder, with a server of their own on another port than the README's.
struct Newcomer {
    cluster: Cluster,
    folder: tempfile::TempDir,
    /// Each port of the README, and which it is here.
    ports: [(&'static str, u16); 3],
}

impl Newcomer {
    fn new() -> Self {
        let cluster = Cluster::start(&Binaries::find().unwrap(), "", "").unwrap();
        let ports = [("5432", cluster.port()), ("6432", free_port().unwrap()), ("6480", free_port().unwrap())];
        let folder = tempfile::tempdir().unwrap();
        let passwords = format!("*:*:*:{SUPERUSER}:{}\n*:*:*:app:two\n*:*:*:analyst:three\n", cluster.password());
        fs::write(folder.path().join("passwords"), passwords).unwrap();
        Self { cluster, folder, ports }
    }

    fn write(&self, name: &str, text: &str) {
        let here = self.ports.iter().fold(text.to_owned(), |text, (port, here)| text.replace(port, &here.to_string()));
        fs::write(self.folder.path().join(name), here).unwrap();
    }

    /// `sh script` in the folder, with the programs in reach and the README's variables set.
    fn shell(&self, script: &str) -> Command {
        self.write("script", script);
        let built = PathBuf::from(env!("CARGO_BIN_EXE_pgveil"));
        let folders = [built.parent().unwrap(), &self.cluster.binaries().dir, "/usr/bin".as_ref(), "/bin".as_ref()];
        let passwords = self.folder.path().join("passwords");
        let mut private = Command::new("chmod");
        assert!(private.arg("600").arg(&passwords).status().unwrap().success());
        let mut command = Command::new("sh");
        command
            .args(["-ec", &format!("{}\n. ./script", variables())])
            .current_dir(self.folder.path())
            .env("PATH", std::env::join_paths(folders).unwrap())
            .env("PGPASSFILE", passwords)
            .stdin(Stdio::null());
        command
    }

    /// What a script that must succeed printed.
    fn ok(&self, script: &str) -> String {
        let output = self.shell(script).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{script}\n{said}");
        said
    }
}

fn chapter() -> String {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let rest = text.split_once("## Ten minutes").expect("the tour").1;
    rest.split_once("\n## ").unwrap().0.to_owned()
}

/// The chapter's block in `language` that contains `word`.
fn block(language: &str, word: &str) -> String {
    let chapter = chapter();
    let blocks = chapter.split("```").skip(1).step_by(2);
    let of_language = blocks.filter_map(|block| block.split_once('\n').filter(|(name, _)| *name == language));
    let found = of_language.map(|(_, text)| text).find(|text| text.contains(word));
    let lines = found.unwrap_or_else(|| panic!("no {language} block with {word}")).lines();
    lines.map(|line| format!("{}\n", line.strip_prefix("   ").unwrap_or(line))).collect()
}

/// The line that exports the two secrets.
fn variables() -> String {
    let chapter = chapter();
    let found = chapter.split('`').find(|code| code.starts_with("export PGVEIL_CONTROL_PASSWORD="));
    found.expect("the export line").to_owned()
}

#[test]
fn the_readme_tour_works_as_written() {
    let newcomer = Newcomer::new();
    newcomer.write("setup.sql", &block("sql", "create database app"));
    newcomer.ok(&format!("psql -X -v ON_ERROR_STOP=1 -h 127.0.0.1 -p 5432 -U {SUPERUSER} -d postgres -f setup.sql"));
    newcomer.write("policy.toml", &block("toml", "version = 1"));
    newcomer.write("pgveil.toml", &block("toml", "[listen]"));
    newcomer.ok("pgveil keys init\npgveil check\npgveil apply --dry-run\npgveil apply");

    let log = newcomer.folder.path().join("serve.log");
    let mut serve = newcomer.shell("exec pgveil serve");
    let _serve = Leashed::spawn(serve.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap())).unwrap();
    let (admin, deadline) = (newcomer.ports[2].1, Instant::now() + Duration::from_secs(60));
    while http(admin, "/readyz").is_none_or(|(status, _)| status != 200) {
        assert!(Instant::now() < deadline, "not ready: {}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    let commands = block("", "psql");
    let commands = commands.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("curl"));
    let said: Vec<String> = commands.map(|line| newcomer.ok(line)).collect();
    let [stored, app, analyst, direct, tail, verified] = said.as_slice() else { panic!("{said:?}") };
    assert!(stored.contains("INSERT 0 1"), "{stored}");
    assert!(app.contains("mila@example.org") && app.contains("Mila Bakker"), "{app}");
    assert!(analyst.contains("m***@") && !analyst.contains("mila@") && !analyst.contains("Bakker"), "{analyst}");
    assert!(direct.contains("\\xfed101") && !direct.contains("mila@"), "{direct}");
    assert!(tail.contains("analyst@app") && !tail.contains("mila@"), "{tail}");
    assert!(verified.contains("OK"), "{verified}");
}
