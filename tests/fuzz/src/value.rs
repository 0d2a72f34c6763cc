//! Whatever a client sends as a value of whatever type is an error or a value that prints and reads back.

use pgveil::wire::types::{Format, Kind, SqlType, Style};
use pgveil::wire::value::{decode, decode_declared, encode};

/// One input.
pub fn run(data: &[u8]) {
    let [own, declared, form, bytes @ ..] = data else { return };
    let kind = |byte: u8| Kind::ALL[usize::from(byte) % Kind::ALL.len()];
    let ty = SqlType { kind: kind(*own), typmod: -1 };
    let format = if form & 1 == 0 { Format::Text } else { Format::Binary };
    let style = Style::default();
    let mut plaintext = Vec::new();
    if decode(ty, format, bytes, &style, &mut plaintext).is_ok() {
        for format in [Format::Text, Format::Binary] {
            let (mut shown, mut again) = (Vec::new(), Vec::new());
            encode(ty, &plaintext, format, &style, &mut shown).expect("what was read prints");
            // A timestamp at the edge of time may print a date that cannot be read.
            if decode(ty, format, &shown, &style, &mut again).is_ok() {
                assert_eq!(again, plaintext);
            }
        }
    }
    let _ = encode(ty, bytes, format, &style, &mut Vec::new());
    let _ = decode_declared(kind(*declared).oid(), ty, format, bytes, &style, &mut Vec::new());
}
