//! No message is taken for a proof or a signature that was not made with the key.

use pgveil::secret::Key;
use pgveil::wire::scram::{Mechanism, Server, Verifier};

/// One input.
pub fn run(data: &[u8]) {
    let verifier = Verifier::mock(&Key::new([1; 32]), "ann");
    let (first, last) = data.split_at(data.len() / 2);
    for mechanism in [Mechanism::Plain, Mechanism::Plus] {
        for end_point in [None, Some(&[7; 32][..])] {
            let Ok(server) = Server::challenge(verifier.clone(), mechanism, end_point, first, &[0; 18]) else {
                continue;
            };
            assert!(server.server_first().len() < 1_024);
            assert!(server.check(last).is_err());
        }
    }
    let server = Server::challenge(verifier, Mechanism::Plain, None, b"n,,n=,r=abc", &[0; 18]).expect("a good message");
    assert!(server.check(data).is_err());
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Verifier::parse(text);
    }
}
