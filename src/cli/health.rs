//! `pgveil health`: asks the admin port of the pgveil that runs with this configuration. For probes and scripts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::config;

/// For connecting, and for each read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const ANSWER_MAX: u64 = 64 * 1024;

/// Arguments of `pgveil health`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pgveil health --config /etc/pgveil/pgveil.toml\n\n\
    Exit code 0: it can serve. 1: it cannot, with what is wrong on each line, or it does not answer.")]
pub(super) struct Args {
    /// The config file; [listen] admin is asked.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// Whether the process lives, not whether it can serve.
    #[arg(long)]
    live: bool,
    /// The answer of /readyz as it is.
    #[arg(long, conflicts_with = "live")]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let admin = config::load(&args.config)?.listen.admin;
    let address = admin.context("[listen] admin is \"off\", so there is nobody to ask")?;
    let path = if args.live { "/healthz" } else { "/readyz" };
    let (ok, body) = ask(address, path).with_context(|| format!("no answer from http://{address}{path}"))?;
    if args.json {
        println!("{}", body.trim_end());
    } else if ok {
        println!("{}", if args.live { "alive" } else { "ready" });
    } else {
        println!("{}", problems(&body));
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the answer is 200, and its body.
fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an answer in HTTP")?;
    let status = head.split(' ').nth(1).context("not an answer in HTTP")?;
    Ok((status == "200", body.to_owned()))
}

/// One line for each check that said no.
fn problems(body: &str) -> String {
    let Ok(serde_json::Value::Object(checks)) = serde_json::from_str(body) else { return "not ready".to_owned() };
    let failed = checks.iter().filter(|(_, check)| check["ok"] == false);
    let lines: Vec<_> =
        failed.map(|(name, check)| format!("{name}: {}", check["reason"].as_str().unwrap_or("no"))).collect();
    if lines.is_empty() { "not ready".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_said_no_is_named() {
        let body = r#"{"ready":false,"upstream":{"ok":false,"reason":"no answer"},"keys":{"ok":true}}"#;
        assert_eq!(problems(body), "upstream: no answer");
        assert_eq!(problems("<html>"), "not ready");
    }
}
