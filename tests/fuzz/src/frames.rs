//! Frames: cut anywhere is cut nowhere, what is cut out is the stream, and every decoder of a body takes any body.

use bytes::BytesMut;
use pgveil::wire::frame::{self, BadFrame, HEADER};
use pgveil::wire::message;

/// Longest message, in bytes: short enough for inputs to go beyond it.
const LIMIT: usize = 200;

/// All whole frames of the pieces, and what is wrong with the next.
fn frames(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<BadFrame>, usize) {
    let (mut held, mut found) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            match frame::peek(&held, LIMIT) {
                Ok(Some((tag, size))) if size <= held.len() => {
                    let frame = held.split_to(size);
                    assert_eq!(tag, frame[0]);
                    found.push(frame.to_vec());
                }
                Ok(_) => break,
                Err(bad) => return (found, Some(bad), held.len()),
            }
        }
        assert!(held.len() <= LIMIT + 1 + piece.len(), "held without bound");
    }
    (found, None, held.len())
}

/// One input: where it is cut, the stream.
pub fn run(data: &[u8]) {
    let [cut, bytes @ ..] = data else { return };
    let (found, bad, left) = frames(&[bytes]);
    let (head, tail) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    for pieces in [&[head, tail][..], &single] {
        let (other, other_bad, _) = frames(pieces);
        assert_eq!((&other, other_bad), (&found, bad));
    }
    let cut_out: Vec<u8> = found.concat();
    assert_eq!(cut_out, bytes[..bytes.len() - left]);
    for frame in &found {
        let mut again = BytesMut::new();
        let mark = frame::begin(&mut again, frame[0]);
        again.extend_from_slice(&frame[HEADER..]);
        frame::finish(&mut again, mark).expect("it was within the limit");
        assert_eq!(again, frame);
        decode(&frame[HEADER..]);
    }
}

/// What is decoded stays inside its body.
fn decode(body: &[u8]) {
    if let Ok(bind) = message::bind(body) {
        let parts = bind.portal.len() + bind.statement.len() + bind.formats.len() + bind.value_bytes.len();
        assert!(parts + bind.result_formats.len() + 8 == body.len());
        for i in 0..bind.values {
            let _ = message::format_at(bind.formats, i);
        }
    }
    if let Ok(parse) = message::parse(body) {
        assert!(parse.name.len() + parse.sql.len() + 4 * parse.oids.len() + 4 == body.len());
    }
    if let Ok(call) = message::function_call(body) {
        assert!(call.formats.len() + call.value_bytes.len() + 10 == body.len());
    }
    if let Ok(fields) = message::row_description(body) {
        assert!(fields.iter().map(|field| field.name.len() + 19).sum::<usize>() + 2 == body.len());
    }
    if let Ok(oids) = message::parameter_description(body) {
        assert!(4 * oids.len() + 2 == body.len());
    }
    let _ = message::query(body);
    let _ = message::target(body);
    let _ = message::execute(body);
    let _ = message::parameter_status(body);
    let _ = message::notice_fields(body);
    let _ = message::tag_rows(body);
}
