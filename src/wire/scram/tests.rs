//! RFC 7677's example, both sides against each other, and messages that are nearly right.

use proptest::prelude::*;

use super::*;

/// RFC 7677 §3.
const USER_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const USER_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SIGNED: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// PBKDF2 with one block (RFC 8018 §5.2): what a client does with its password.
fn salted(password: &[u8], salt: &[u8], count: u32) -> Key {
    let mut round = mac(password, &[salt, &1u32.to_be_bytes()]);
    let mut sum = round.clone();
    for _ in 1..count {
        round = mac(password, &[round.expose()]);
        sum = xor(&sum, &round);
    }
    sum
}

pub(crate) struct Password {
    client_key: Key,
    pub(crate) verifier: Verifier,
}

fn password(text: &str, salt: &[u8]) -> Password {
    let salted = salted(text.as_bytes(), salt, ITERATIONS_MIN);
    let client_key = mac(salted.expose(), &[b"Client Key"]);
    let text = format!(
        "SCRAM-SHA-256${ITERATIONS_MIN}:{}${}:{}",
        encode(salt),
        encode(stored_key(&client_key).expose()),
        encode(mac(salted.expose(), &[b"Server Key"]).expose())
    );
    Password { verifier: Verifier::parse(&text).unwrap(), client_key }
}

/// The password of the example.
pub(crate) fn pencil() -> Password {
    password("pencil", &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap())
}

/// A client with the password: `client-final-message` for a challenge.
pub(crate) fn prove(password: &Password, first_bare: &str, challenge: &str, without_proof: &str) -> String {
    let authenticated = format!("{first_bare},{challenge},{without_proof}");
    let signature = mac(password.verifier.stored_key.expose(), &[authenticated.as_bytes()]);
    format!("{without_proof},p={}", encode(xor(&password.client_key, &signature).expose()))
}

/// A client that has gone through [`Server`] with the right password.
fn proven(password: &Password) -> Proven {
    let server =
        Server::challenge(password.verifier.clone(), Mechanism::Plain, None, b"n,,n=,r=abc", &[1; 18]).unwrap();
    let challenge = server.server_first().to_owned();
    let nonce = challenge.split(',').next().unwrap();
    let answer = prove(password, "n=,r=abc", &challenge, &format!("c=biws,{nonce}"));
    server.check(answer.as_bytes()).unwrap()
}

#[test]
fn the_example_of_rfc_7677_from_both_sides() {
    let password = pencil();
    let server = Server {
        verifier: password.verifier.clone(),
        binding: "biws".into(),
        first_bare: USER_FIRST[3..].into(),
        challenge: CHALLENGE.into(),
        nonce: CHALLENGE[2..].split(',').next().unwrap().into(),
    };
    let proven = server.check(USER_FINAL.as_bytes()).unwrap();
    assert_eq!(proven.server_final, SIGNED);
    assert_eq!(proven.client_key.expose(), password.client_key.expose());
    let mut client = Client::new(proven, None, &[0; 18]);
    client.first_bare = USER_FIRST[3..].into();
    client.nonce = "rOprNGfwEbeRWgbNEkqO".into();
    assert_eq!(client.client_first(), USER_FIRST);
    assert_eq!(client.answer(CHALLENGE.as_bytes()).unwrap(), USER_FINAL);
    assert_eq!(client.finish(SIGNED.as_bytes()).unwrap(), SIGNED);
}

#[test]
fn a_client_key_from_one_exchange_wins_the_next_with_and_without_binding() {
    let password = pencil();
    for (end_point, mechanism) in [(None, Mechanism::Plain), (Some(&[7u8; 32][..]), Mechanism::Plus)] {
        let mut client = Client::new(proven(&password), end_point, &[2; 18]);
        assert_eq!(client.mechanism(), mechanism);
        let first = client.client_first();
        let server =
            Server::challenge(password.verifier.clone(), mechanism, end_point, first.as_bytes(), &[3; 18]).unwrap();
        let last = client.answer(server.server_first().as_bytes()).unwrap();
        let signed = server.check(last.as_bytes()).unwrap().server_final;
        assert_ne!(client.finish(signed.as_bytes()).unwrap(), signed, "each exchange has a signature of its own");
    }
}

#[test]
fn another_certificate_and_a_hidden_offer_are_noticed() {
    let password = pencil();
    let mut client = Client::new(proven(&password), Some(&[7; 32]), &[2; 18]);
    let first = client.client_first();
    let verifier = || password.verifier.clone();
    let server = Server::challenge(verifier(), Mechanism::Plus, Some(&[8; 32]), first.as_bytes(), &[3; 18]).unwrap();
    let last = client.answer(server.server_first().as_bytes()).unwrap();
    assert_eq!(server.check(last.as_bytes()).unwrap_err(), Fault::Binding);
    let begin = |mechanism, end_point: Option<&[u8]>, first: &str| {
        Server::challenge(verifier(), mechanism, end_point, first.as_bytes(), &[3; 18]).map(drop)
    };
    let bound = Some(&[8; 32][..]);
    assert_eq!(begin(Mechanism::Plain, bound, "y,,n=,r=abc"), Err(Fault::Binding));
    assert_eq!(begin(Mechanism::Plain, None, "y,,n=,r=abc"), Ok(()));
    assert_eq!(begin(Mechanism::Plain, bound, "n,,n=,r=abc"), Ok(()));
    assert_eq!(begin(Mechanism::Plus, bound, "n,,n=,r=abc"), Err(Fault::Binding));
    assert_eq!(begin(Mechanism::Plain, bound, "p=tls-server-end-point,,n=,r=abc"), Err(Fault::Binding));
    assert_eq!(begin(Mechanism::Plus, None, "p=tls-server-end-point,,n=,r=abc"), Err(Fault::Binding));
    assert_eq!(begin(Mechanism::Plus, bound, "p=tls-unique,,n=,r=abc"), Err(Fault::Unsupported));
}

#[test]
fn malformed_first_messages() {
    let verifier = pencil().verifier;
    for (first, fault) in [
        ("", Fault::Malformed),
        ("n", Fault::Malformed),
        ("n,,", Fault::Malformed),
        ("n,,n=ann", Fault::Malformed),
        ("n,,n=,r=", Fault::Malformed),
        ("n,,n=,r=a b", Fault::Malformed),
        ("n,,r=abc,n=", Fault::Malformed),
        ("x,,n=,r=abc", Fault::Malformed),
        ("n,a=bob,n=,r=abc", Fault::Unsupported),
        ("n,bob,n=,r=abc", Fault::Malformed),
        ("n,,m=x,n=,r=abc", Fault::Unsupported),
    ] {
        let begun = Server::challenge(verifier.clone(), Mechanism::Plain, None, first.as_bytes(), &[0; 18]);
        assert_eq!(begun.unwrap_err(), fault, "{first}");
    }
    let long = format!("n,,n=,r={}", "a".repeat(NONCE_MAX + 1));
    assert!(Server::challenge(verifier.clone(), Mechanism::Plain, None, long.as_bytes(), &[0; 18]).is_err());
    let long = format!("n,,n={},r=a", "a".repeat(MESSAGE_MAX));
    assert!(Server::challenge(verifier, Mechanism::Plain, None, long.as_bytes(), &[0; 18]).is_err());
}

#[test]
fn a_challenge_of_another_verifier_or_exchange_is_not_answered() {
    let password = pencil();
    let ours = encode(&[2; 18]);
    let salt = encode(&password.verifier.salt);
    for (challenge, fault) in [
        (format!("r={ours},s={salt},i=4096"), Fault::Nonce),
        (format!("r=x{ours}y,s={salt},i=4096"), Fault::Nonce),
        (format!("r={ours}x,s={salt},i=4095"), Fault::Iterations),
        (format!("r={ours}x,s={salt},i=600001"), Fault::Iterations),
        (format!("r={ours}x,s={salt},i=99999999999"), Fault::Malformed),
        (format!("r={ours}x,s={salt},i=9999999999"), Fault::Iterations),
        (format!("r={ours}x,s={salt},i=04096"), Fault::Malformed),
        (format!("r={ours}x,s={salt},i=4097"), Fault::OtherVerifier),
        (format!("r={ours}x,s=AAAA,i=4096"), Fault::OtherVerifier),
        (format!("r={ours}x,s={},i=4096", "A".repeat(1024)), Fault::Malformed),
        (format!("m=1,r={ours}x,s={salt},i=4096"), Fault::Unsupported),
        ("e=other-error".into(), Fault::Malformed),
    ] {
        let mut client = Client::new(proven(&password), None, &[2; 18]);
        assert_eq!(client.answer(challenge.as_bytes()).unwrap_err(), fault, "{challenge}");
    }
    let unasked = Client::new(proven(&password), None, &[2; 18]);
    assert_eq!(unasked.finish(SIGNED.as_bytes()).unwrap_err(), Fault::Unproven);
}

#[test]
fn verifiers_are_read_as_postgres_writes_them_and_nothing_else_is() {
    let good = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert_eq!(format!("{:?}", Verifier::parse(good).unwrap()), "Verifier(…)");
    for (bad, fault) in [
        ("", Fault::Malformed),
        ("md5d41d8cd98f00b204e9800998ecf8427e", Fault::Malformed),
        ("SCRAM-SHA-256$4096:$a:b", Fault::Malformed),
        (&good[..good.len() - 1], Fault::Malformed),
        (&format!("{good}A"), Fault::Malformed),
        (&good.replace("$4096", "$1"), Fault::Iterations),
        (&good.replace("$4096", "$4000000000"), Fault::Iterations),
        (&good.replace("$4096", "$-4096"), Fault::Malformed),
        (&good.replace("SHA-256", "SHA-512"), Fault::Malformed),
    ] {
        assert_eq!(Verifier::parse(bad).unwrap_err(), fault, "{bad}");
    }
}

#[test]
fn a_mock_is_the_same_for_a_name_and_of_no_use() {
    let (secret, other) = (Key::new([1; 32]), Key::new([2; 32]));
    let challenge = |secret: &Key, user: &str| {
        let begun = Server::challenge(Verifier::mock(secret, user), Mechanism::Plain, None, b"n,,n=,r=a", &[0; 18]);
        begun.unwrap().server_first().to_owned()
    };
    assert_eq!(challenge(&secret, "ann"), challenge(&secret, "ann"));
    assert_ne!(challenge(&secret, "ann"), challenge(&secret, "bob"));
    assert_ne!(challenge(&secret, "ann"), challenge(&other, "ann"));
    let real = Server::challenge(pencil().verifier, Mechanism::Plain, None, b"n,,n=,r=a", &[0; 18]).unwrap();
    assert_eq!(challenge(&secret, "ann").len(), real.server_first().len());
}

#[test]
fn nothing_secret_is_printed() {
    let password = pencil();
    let proven = proven(&password);
    let client = Client::new(proven.clone(), None, &[2; 18]);
    for shown in [format!("{proven:?}"), format!("{client:?}")] {
        assert!(shown.contains("Key(…)") && shown.contains("Verifier(…)"), "{shown}");
        assert!(!shown.contains(&encode(password.client_key.expose())), "{shown}");
    }
}

proptest! {
    #[test]
    fn one_bit_anywhere_in_the_last_message_is_refused(at in 0usize..110, bit in 0u32..8) {
        let password = pencil();
        let server = Server::challenge(password.verifier.clone(), Mechanism::Plain, None, b"n,,n=,r=abc", &[1; 18]).unwrap();
        let challenge = server.server_first().to_owned();
        let nonce = challenge.split(',').next().unwrap();
        let mut answer = prove(&password, "n=,r=abc", &challenge, &format!("c=biws,{nonce}")).into_bytes();
        let at = at % answer.len();
        answer[at] ^= 1 << bit;
        prop_assert!(server.check(&answer).is_err());
    }

    #[test]
    fn one_bit_anywhere_in_the_signature_is_refused(at in 0usize..46, bit in 0u32..8) {
        let password = pencil();
        let mut client = Client::new(proven(&password), None, &[2; 18]);
        let first = client.client_first();
        let server = Server::challenge(password.verifier.clone(), Mechanism::Plain, None, first.as_bytes(), &[3; 18]).unwrap();
        let last = client.answer(server.server_first().as_bytes()).unwrap();
        let mut signed = server.check(last.as_bytes()).unwrap().server_final.into_bytes();
        let at = at % signed.len();
        signed[at] ^= 1 << bit;
        prop_assert!(client.finish(&signed).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..120) {
        let verifier = Verifier::mock(&Key::new([1; 32]), "ann");
        for mechanism in [Mechanism::Plain, Mechanism::Plus] {
            let _ = Server::challenge(verifier.clone(), mechanism, Some(&[1; 32]), &bytes, &[0; 18]);
        }
        let server = Server::challenge(verifier.clone(), Mechanism::Plain, None, b"n,,n=,r=abc", &[1; 18]).unwrap();
        let _ = server.check(&bytes);
        let server = Server::challenge(verifier, Mechanism::Plain, None, b"n,,n=,r=abc", &[1; 18]).unwrap();
        let _ = server.check(&USER_FINAL.as_bytes()[..cut.min(USER_FINAL.len())]);
        let _ = Verifier::parse(&String::from_utf8_lossy(&bytes));
    }
}
