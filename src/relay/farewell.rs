//! The last message to a client that is turned away.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::stream::Stream;
use crate::desk::{Ending, quarantine};
use crate::error::{Code, Refusal, SqlState};
use crate::wire::encode;

/// How long a client may take to read its last message.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends a FATAL ErrorResponse and closes. Errors are nobody's business any more.
pub(crate) async fn refuse(mut stream: Stream, refusal: &Refusal) {
    let mut last = BytesMut::new();
    encode::error(&mut last, "FATAL", refusal);
    let said = async {
        stream.write_all(&last).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(PATIENCE, said).await;
}

/// The proxy shuts down; PostgreSQL's own words.
pub(crate) fn draining() -> Refusal {
    Refusal::new(Code::Draining, "terminating connection due to administrator command", "Connect again.")
}

/// The detector, or the operator, ends this session.
pub(crate) fn told_to_end(ending: Ending) -> (Refusal, &'static str) {
    match ending {
        Ending::Killed => {
            let message = "terminating connection because the breach detector has ended this session";
            (Refusal::new(Code::Killed, message, "The operator finds the reason in the access log."), "killed")
        }
        Ending::Quarantined => (quarantine::refusal().with_sqlstate(SqlState(*b"57P01")), "quarantined"),
    }
}

/// PostgreSQL went away under a session.
pub(crate) fn lost() -> Refusal {
    Refusal::new(
        Code::UpstreamDown,
        "the connection to the PostgreSQL server was lost",
        "Connect again; whether the last transaction was committed is not known.",
    )
    .with_sqlstate(SqlState(*b"08006"))
}

/// All places are taken; PostgreSQL's own words.
pub(crate) fn no_seat() -> Refusal {
    Refusal::new(
        Code::TooManyConnections,
        "sorry, too many clients already",
        "Close connections, or raise [listen] max_connections.",
    )
}
