//! FunctionCall messages: large objects, as libpq's `lo_*` functions ask for them; every other function is refused.
//!
//! In: one frame. Out: the frame, or one that must fail in its place. Never: a function that reads tables.

use crate::error::{Code, Refusal};
use crate::plan::Refused;
use crate::policy::rules::StatementClass;
use crate::wire::message::{self, FunctionCall, Reader};
use crate::wire::{encode, frame};

use super::pending::{ABORTED, Pending};
use super::record::refused_step;
use super::write::{carries_envelope, envelope_inbound};
use super::{Context, Session};

/// lo_creat, lo_create, lo_open, lo_close, loread, lowrite, lo_lseek, lo_lseek64, lo_tell, lo_tell64, lo_truncate,
/// lo_truncate64, lo_unlink (pg_proc.dat). A large object belongs to no column, so nothing sealed is opened from it.
const LARGE_OBJECTS: [u32; 13] = [957, 715, 952, 953, 954, 955, 956, 3170, 958, 3171, 1004, 3172, 964];

impl Session {
    pub(super) fn call(&mut self, message: &[u8], cx: &mut Context<'_>) {
        let Ok(call) = message::function_call(&message[frame::HEADER..]) else {
            return self.forward_malformed(b'F', Pending::Call { refused: None }, cx);
        };
        let refused = self.call_objection(&call, cx);
        match &refused {
            Some(_) => encode::failing_function_call(cx.to_server),
            None => {
                self.note_call(&refused_call(), cx);
                self.forward(message, cx);
            }
        }
        let refused = refused.map(|refusal| refused_step(None, refusal));
        self.pending.push_back(Pending::Call { refused });
    }

    fn call_objection(&self, call: &FunctionCall<'_>, cx: &Context<'_>) -> Option<Refusal> {
        let class = self.class(cx.rules);
        let refuses = class.refuses.contains(&StatementClass::FastPath);
        if !LARGE_OBJECTS.contains(&call.function) || class.partial() || refuses {
            return Some(refused_call());
        }
        let mut r = Reader::new(call.value_bytes);
        let sealed = (0..call.values).any(|i| {
            let value = r.value().ok().flatten().unwrap_or_default();
            carries_envelope(cx.keyring, value, message::format_at(call.formats, i).unwrap_or_default())
        });
        sealed.then(envelope_inbound)
    }
}

fn refused_call() -> Refusal {
    Refusal::new(
        Code::FastPathRefused,
        "function-call messages are not available on a protected database, but for large objects",
        "call the function in a SELECT",
    )
}

/// The refusal belongs to the error of the function that does not exist.
pub(super) fn answered(refused: &mut Option<Box<Refused>>, sqlstate: [u8; 5]) -> Option<Box<Refused>> {
    refused.take().filter(|_| [*b"42883", ABORTED].contains(&sqlstate))
}
