//! The packets that open a connection: a fault, or a packet that encodes to what it says.

use bytes::BytesMut;
use pgveil::wire::startup::{LENGTH_MAX, NAME_MAX, Opening, encode_cancel, length, parse};

/// One input: with one byte in front, a whole connection's bytes, or the body of a packet whose length is right.
pub fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let body = bytes.len().min(LENGTH_MAX);
    let framed = [&((body + 4) as u32).to_be_bytes(), &bytes[..body]].concat();
    let packet = if which & 1 == 0 { bytes } else { &framed };
    // The length is said as soon as its word is there, and never otherwise afterwards.
    let said = length(packet, LENGTH_MAX);
    for cut in 0..packet.len().min(16) {
        assert_eq!(length(&packet[..cut], LENGTH_MAX), if cut < 4 { Ok(None) } else { said });
    }
    match parse(packet) {
        Err(fault) => {
            let _ = fault.refusal().map(|refusal| refusal.message);
        }
        Ok(Opening::Startup(startup)) => {
            let mut out = BytesMut::new();
            startup.encode(&mut out).expect("it came within the limit");
            assert_eq!(out, packet);
            assert!([startup.user(), startup.database()].into_iter().flatten().all(|name| name.len() <= NAME_MAX));
        }
        Ok(Opening::Cancel(key)) => {
            let mut out = BytesMut::new();
            encode_cancel(&key, &mut out).expect("it came within the limit");
            assert_eq!(out, packet);
        }
        Ok(Opening::Ssl | Opening::Gssenc) => assert_eq!(packet.len(), 8),
    }
}
