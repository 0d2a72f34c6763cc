//! Messages of any size as bytes, what is answered to them, and what answering them costs the proxy.

use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Site, Wire, frame, shown};

/// Bytes.
pub const MIB: u64 = 1 << 20;
/// Unoptimised and on a busy machine; nothing hangs for so long.
const PATIENCE: Duration = Duration::from_secs(180);
/// What a process may keep of one case.
const KEPT: u64 = 96 * MIB;

/// A simple Query.
pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// Parse without declared types.
pub fn parse(name: &[u8], sql: &[u8]) -> Vec<u8> {
    frame(b'P', &[name, b"\0", sql, b"\0\0\0"].concat())
}

/// Bind of values in text form.
pub fn bind(portal: &[u8], statement: &[u8], values: &[&[u8]]) -> Vec<u8> {
    let mut body = [portal, b"\0", statement, b"\0\0\0"].concat();
    body.extend_from_slice(&u16::try_from(values.len()).expect("a count of Bind").to_be_bytes());
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
    }
    frame(b'B', &[&body[..], &[0, 0]].concat())
}

/// Describe and Execute of that portal.
pub fn run(portal: &[u8]) -> Vec<u8> {
    let describe = frame(b'D', &[b"P", portal, b"\0"].concat());
    [describe, frame(b'E', &[portal, b"\0\0\0\0\0"].concat())].concat()
}

/// Sync.
pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

/// Parse, Bind, Describe, Execute, Sync of what has no name.
pub fn extended(sql: &str, values: &[&[u8]]) -> Vec<u8> {
    [parse(b"", sql.as_bytes()), bind(b"", b"", values), run(b""), sync()].concat()
}

/// An answer: the messages' tags with how many came in a row, the SQLSTATEs, and a digest of everything.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// With how many came in a row.
    pub tags: String,
    /// Of all ErrorResponses.
    pub errors: Vec<String>,
    digest: String,
}

/// Sends a case and reads until it has been answered by so many ReadyForQuery, or to the end (tag `.`).
pub fn ask(wire: &mut Wire, case: &[u8], readies: usize) -> Said {
    wire.send(case);
    let (mut tags, mut errors, mut digest) = (Vec::<(u8, usize)>::new(), Vec::new(), Sha256::new());
    let mut left = readies;
    while left > 0 {
        let Ok(frame) = wire.frame_within(PATIENCE) else { panic!("no answer after {PATIENCE:?}") };
        let tag = frame.as_ref().map_or(b'.', |frame| frame.tag);
        match tags.last_mut() {
            Some((last, count)) if *last == tag => *count += 1,
            _ => tags.push((tag, 1)),
        }
        let Some(frame) = frame else { break };
        if tag == b'E' {
            errors.push(frame.field(b'C').unwrap_or_default());
        }
        digest.update(if tag == b'D' { format!("{:?}", frame.body) } else { shown(&frame) });
        left -= usize::from(tag == b'Z');
    }
    let mut text = String::new();
    for (tag, count) in tags {
        let _ = if count == 1 {
            write!(text, "{}", char::from(tag))
        } else {
            write!(text, "{}×{count} ", char::from(tag))
        };
    }
    Said { tags: text, errors, digest: hex::encode(digest.finalize()) }
}

/// A field of `/proc/PID/status`, in bytes.
fn status(site: &Site, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", site.process_id())).expect("the proxy lives");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("a field of status");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What one stretch of work may cost the proxy.
pub struct Memory<'a> {
    site: &'a Site,
    before: u64,
}

impl<'a> Memory<'a> {
    /// From here on.
    pub fn watch(site: &'a Site) -> Self {
        // Forgets the highest resident size so far.
        std::fs::write(format!("/proc/{}/clear_refs", site.process_id()), "5").expect("the proxy is ours");
        Self { site, before: status(site, "VmRSS") }
    }

    /// The most it has taken so far beyond what it had.
    pub fn peak(&self) -> u64 {
        status(self.site, "VmHWM").saturating_sub(self.before)
    }

    /// At most `peak` more at any time, and at most [`KEPT`] more now.
    pub fn within(self, peak: u64, what: &str) {
        let highest = self.peak();
        assert!(highest <= peak, "{what}: {} MiB at the highest, allowed {}", highest / MIB, peak / MIB);
        let mut kept = u64::MAX;
        for _ in 0..50 {
            kept = status(self.site, "VmRSS").saturating_sub(self.before);
            if kept <= KEPT {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{what}: {} MiB are kept", kept / MIB);
    }
}
