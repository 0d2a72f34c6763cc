//! Signed checkpoints as syslog messages (RFC 5424), for a collector that keeps what it was told.
//!
//! In: a note, the time. Out: one message, to a local socket or over TCP (RFC 6587, octet counting). Never: a wait of more
//! than half a minute, a belief that it arrived: syslog has no answer.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use super::note::Note;

/// Connecting and writing, each.
const PATIENCE: Duration = Duration::from_secs(30);
/// Facility 13 (log audit), severity 5 (notice).
const PRIORITY: u8 = 13 * 8 + 5;
/// Where syslog listens on most systems.
const LOCAL: &str = "/dev/log";

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syslog {
    /// A Unix datagram socket.
    Socket(PathBuf),
    /// Host and port.
    Tcp(String, u16),
}

impl Syslog {
    /// Reads `syslog:` (the local one), `syslog:/path/of/a/socket` or `syslog://host:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let place = text.strip_prefix("syslog:")?;
        if place.is_empty() {
            return Some(Self::Socket(LOCAL.into()));
        }
        let Some(address) = place.strip_prefix("//") else {
            return place.starts_with('/').then(|| Self::Socket(place.into()));
        };
        let (host, port) = address.rsplit_once(':')?;
        let host = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let bare = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@[]".contains(c));
        bare.then(|| Self::Tcp(host.to_owned(), port))
    }

    /// Sends a note.
    ///
    /// # Errors
    /// Nobody listens there, or not in time.
    pub fn send(&self, note: &Note, unix_us: i64) -> io::Result<()> {
        let message = message(note, unix_us);
        match self {
            Self::Socket(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket.connect(path)?;
                socket.send(message.as_bytes()).map(|_| ())
            }
            Self::Tcp(host, port) => {
                let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, PATIENCE) {
                        Ok(mut stream) => {
                            stream.set_write_timeout(Some(PATIENCE))?;
                            stream.write_all(format!("{} {message}", message.len()).as_bytes())?;
                            return stream.flush();
                        }
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
        }
    }
}

impl fmt::Display for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "syslog:{}", path.display()),
            Self::Tcp(host, port) => write!(f, "syslog://{host}:{port}"),
        }
    }
}

/// `<109>1 TIME - pgveil PID checkpoint - {"note":"…"}`: a note has lines, a message is one.
fn message(note: &Note, unix_us: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(unix_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let said = serde_json::json!({ "note": note.to_string() });
    format!("<{PRIORITY}>1 {at:.6} - pgveil {} checkpoint - {said}", std::process::id())
}

/// The note in a line of a collector's file, if it has one.
pub(super) fn note_in(line: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Said {
        note: String,
    }
    let at = line.find("{\"note\":\"")?;
    let said: Said = serde_json::from_str(line[at..].trim_end()).ok()?;
    Some(said.note)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::super::note::Signer;
    use super::*;
    use crate::secret::Key;

    fn note() -> Note {
        Signer::new(&Key::new([7; 32]), &"01".repeat(16)).sign(4_711, [9; 32])
    }

    #[test]
    fn places_read_back_and_others_are_none() {
        for text in ["syslog:/dev/log", "syslog:/run/x", "syslog://collector.example:601", "syslog://10.0.0.1:514"] {
            assert_eq!(Syslog::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Syslog::parse("syslog:"), Some(Syslog::Socket("/dev/log".into())));
        assert_eq!(Syslog::parse("syslog://[::1]:601"), Some(Syslog::Tcp("::1".to_owned(), 601)));
        for text in
            ["", "syslog", "syslog:x", "syslog://", "syslog://host", "syslog://:1", "syslog://h:0", "syslog://h:65536"]
        {
            assert_eq!(Syslog::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_socket_and_a_collector_get_the_note_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        Syslog::Socket(path).send(&note(), 1_700_000_000_123_456).unwrap();
        let mut bytes = [0; 4_096];
        let read = socket.recv(&mut bytes).unwrap();
        let local = String::from_utf8(bytes[..read].to_vec()).unwrap();
        let begin = format!("<109>1 2023-11-14T22:13:20.123456Z - pgveil {} checkpoint - {{", std::process::id());
        assert!(local.starts_with(&begin) && !local.contains('\n'), "{local}");
        assert_eq!(note_in(&format!("host {local}\n")), Some(note().to_string()));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Syslog::Tcp("127.0.0.1".to_owned(), port).send(&note(), 1_700_000_000_123_456).unwrap();
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{} {local}", local.len()));
        drop(listener);
        Syslog::Tcp("127.0.0.1".to_owned(), port).send(&note(), 0).unwrap_err();
    }

    #[test]
    fn lines_of_others_have_no_note() {
        for line in ["", "{}", "{\"note\":\"", "{\"note\":\"a\"} and more", "{\"note\": 7}"] {
            assert_eq!(note_in(line), None, "{line}");
        }
    }
}
