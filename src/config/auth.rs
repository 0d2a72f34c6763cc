//! `[auth]`: who judges a login, and with what.

use std::path::Path;

use super::read::{missing, path};
use super::{Auth, Verifiers};
use crate::policy::reader::Section;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Relay,
    Terminate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Function,
    File,
}

const MODES: &[(&str, Mode)] = &[("relay", Mode::Relay), ("terminate", Mode::Terminate)];
const SOURCES: &[(&str, Source)] = &[("function", Source::Function), ("file", Source::File)];

/// SCRAM through a proxy cannot be bound to two TLS connections at once, so with TLS on both legs it ends here.
pub(super) fn default(both_tls: bool) -> Auth {
    Auth { terminate: both_tls.then_some(Verifiers::Function), relay_cleartext: false }
}

pub(super) fn read(mut s: Section<'_>, folder: &Path, both_tls: bool) -> Option<Auth> {
    let mode = s.choice("mode", MODES);
    let relay = mode.as_ref().map_or(!both_tls, |at| at.value == Mode::Relay);
    let source = s.choice("verifiers", SOURCES);
    let file = source.as_ref().is_some_and(|at| at.value == Source::File);
    let (has_path, place) = (s.has("path"), s.place_of("path"));
    let path = path(&mut s, "path", folder);
    let relay_cleartext = s.flag("relay_cleartext");
    if file && !has_path {
        missing(&s, "path", "path = \"verifiers.txt\": lines \"user\" \"SCRAM-SHA-256$…\", mode 0600");
    }
    if has_path && !file {
        s.problem(&place, "`path` in [auth] is read only with verifiers = \"file\"", "add it".to_owned());
    }
    if let Some(at) = source.as_ref().filter(|_| relay) {
        let hint = "add mode = \"terminate\", or remove it".to_owned();
        s.problem(&at.place, "`verifiers` in [auth] needs mode = \"terminate\"", hint);
    }
    if let Some(at) = relay_cleartext.as_ref().filter(|at| at.value && (relay || !both_tls)) {
        let hint = "give [listen] and [upstream] tls, or remove it; with mode = \"relay\" it has no meaning".to_owned();
        s.problem(&at.place, "relay_cleartext = true needs mode = \"terminate\" and TLS on both legs", hint);
    }
    s.close();
    let terminate = match (relay, file) {
        (true, _) => None,
        (false, false) => Some(Verifiers::Function),
        (false, true) => Some(Verifiers::File(path?)),
    };
    Some(Auth { terminate, relay_cleartext: relay_cleartext.is_some_and(|at| at.value) })
}
