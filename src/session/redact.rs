//! Errors and notifications of the server on their way to an actor who may not see everything.
//!
//! In: an ErrorResponse, NoticeResponse or NotificationResponse. Out: the same without the places where a value can stand.
//! Never: a change of severity or SQLSTATE, or of a name that the server itself has said.

use bytes::{BufMut, BytesMut};

use crate::wire::{frame, message};

/// The five characters of `C`, `XX000` where there are none.
pub(super) fn sqlstate(body: &[u8]) -> [u8; 5] {
    let fields = message::notice_fields(body).unwrap_or_default();
    let code = fields.iter().find(|(code, _)| *code == b'C').map(|(_, text)| *text);
    code.and_then(|c| c.try_into().ok()).unwrap_or(*b"XX000")
}

/// `V` is `FATAL` or `PANIC`.
pub(super) fn fatal(body: &[u8]) -> bool {
    let fields = message::notice_fields(body).unwrap_or_default();
    fields.iter().any(|(code, text)| *code == b'V' && (*text == b"FATAL" || *text == b"PANIC"))
}

/// Classes whose messages are built from names only (PostgreSQL, `errcodes.txt` and the messages in the source):
/// connection, feature, transaction, syntax and access, resources, operator intervention. Messages of any other
/// class can quote a value.
const NAMES_ONLY: [&[u8]; 14] =
    [b"08", b"0A", b"25", b"28", b"2B", b"34", b"26", b"3D", b"3F", b"40", b"53", b"54", b"55", b"57"];

fn message_may_quote(code: &[u8]) -> bool {
    if NAMES_ONLY.iter().any(|class| code.starts_with(class)) {
        return false;
    }
    !matches!(
        code,
        b"42501"
            | b"42601"
            | b"42703"
            | b"42P01"
            | b"42P07"
            | b"42701"
            | b"42883"
            | b"42702"
            | b"42803"
            | b"23502"
            | b"23503"
            | b"23505"
            | b"23514"
            | b"23P01"
    )
}

/// Where the server itself names tables, columns and constraints in fields of their own (`errtable` and the like), as
/// against users' RAISE, which may put anything there.
const NAMING: [&[u8]; 7] = [
    b"execMain.c",
    b"execIndexing.c",
    b"execPartition.c",
    b"execExprInterp.c",
    b"domains.c",
    b"nbtinsert.c",
    b"ri_triggers.c",
];

/// Appends the frame without DETAIL, CONTEXT, internal query and position, and with the message replaced where it
/// can quote a value. What has a CONTEXT was said while users' code ran, a trigger on a protected table, say: whatever
/// its SQLSTATE, message, hint and names may be made of values.
pub(super) fn append(tag: u8, body: &[u8], out: &mut BytesMut) {
    let Ok(fields) = message::notice_fields(body) else { return };
    let field = |wanted: u8| fields.iter().find(|(code, _)| *code == wanted).map(|(_, text)| *text);
    let users = field(b'W').is_some();
    let names = !users || field(b'F').is_some_and(|file| NAMING.contains(&file));
    let quotes = users || message_may_quote(&sqlstate(body));
    let mark = frame::begin(out, tag);
    for (code, text) in fields {
        let goes = match code {
            b'D' | b'W' | b'q' | b'p' => true,
            b'H' => users,
            b's' | b't' | b'c' | b'd' | b'n' => !names,
            _ => false,
        };
        if goes {
            continue;
        }
        out.put_u8(code);
        if code == b'M' && quotes {
            out.put_slice(b"message withheld by pgveil: it may quote a value");
        } else {
            out.put_slice(text);
        }
        out.put_u8(0);
    }
    out.put_u8(0);
    // Shorter than the frame it came from, so it fits.
    let _ = frame::finish(out, mark);
}

/// Whether [`append`] would take something out.
pub(super) fn changes(body: &[u8]) -> bool {
    let mut out = BytesMut::new();
    append(b'E', body, &mut out);
    out.get(frame::HEADER..) != Some(body)
}

/// Appends the NotificationResponse with an empty payload: often it is a whole row, put there by a trigger. False if it
/// is none.
pub(super) fn append_notification(body: &[u8], out: &mut BytesMut) -> bool {
    // Process, channel, payload.
    let end = body.get(4..).and_then(|rest| rest.iter().position(|byte| *byte == 0));
    let Some(head) = end.and_then(|end| body.get(..=4 + end)) else { return false };
    let mark = frame::begin(out, b'A');
    out.put_slice(head);
    out.put_u8(0);
    // Not longer than the frame it came from.
    frame::finish(out, mark).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(code: &str, message: &str, detail: &str) -> Vec<u8> {
        format!("SERROR\0VERROR\0C{code}\0M{message}\0D{detail}\0ttable\0\0").into_bytes()
    }

    #[test]
    fn values_go_and_names_stay() {
        let mut out = BytesMut::new();
        append(b'E', &body("22P02", "invalid input syntax: \"secret\"", "Key (a)=(secret)"), &mut out);
        assert!(memchr::memmem::find(&out, b"secret").is_none());
        assert!(memchr::memmem::find(&out, b"22P02").is_some());
        assert!(memchr::memmem::find(&out, b"ttable").is_some());
        let (_, size) = frame::peek(&out, 1 << 20).unwrap().unwrap();
        assert_eq!(size, out.len());
    }

    #[test]
    fn messages_made_of_names_are_kept() {
        assert!(!changes(b"SERROR\0VERROR\0C42501\0Mpermission denied for table users\0\0"));
        assert!(changes(b"SERROR\0VERROR\0C23505\0Mduplicate key\0DKey (a)=(secret)\0\0"));
        let mut out = BytesMut::new();
        append(b'E', &body("42501", "permission denied for table users", ""), &mut out);
        assert!(memchr::memmem::find(&out, b"permission denied for table users").is_some());
    }

    #[test]
    fn what_users_code_says_is_withheld_under_every_sqlstate() {
        let raised = |file: &str| {
            let text = "SERROR\0VERROR\0C23505\0Mtaken by secret\0Hsecret\0nguarded_secret\0WPL/pgSQL function f()\0";
            format!("{text}F{file}\0\0").into_bytes()
        };
        let mut out = BytesMut::new();
        append(b'E', &raised("pl_exec.c"), &mut out);
        assert!(memchr::memmem::find(&out, b"secret").is_none());
        out.clear();
        append(b'E', &raised("nbtinsert.c"), &mut out);
        assert!(memchr::memmem::find(&out, b"nguarded_secret\0").is_some(), "the server's own name");
        assert!(memchr::memmem::find(&out, b"taken").is_none());
    }

    #[test]
    fn a_notification_keeps_its_channel_and_loses_its_payload() {
        let mut out = BytesMut::new();
        assert!(append_notification(b"\0\0\0\x07rows\0{\"ssn\": \"secret\"}\0", &mut out));
        assert!(!append_notification(b"\0\0\0\x07rows", &mut BytesMut::new()), "no end of the channel's name");
        assert_eq!(&out[..], b"A\0\0\0\x0e\0\0\0\x07rows\0\0");
    }
}
