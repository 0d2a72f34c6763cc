//! Who is behind a login that several people share, as an application signs it: a JWS in compact form (RFC 7515) with
//! EdDSA (RFC 8037) and no other algorithm.
//!
//! In: a token as a client sent it, the keys of `[vouchers]`, whom it must be meant for, the time. Out: the person, and until
//! when. Never: a key or an algorithm that the token chooses; a token that lives longer than fifteen minutes.
//!
//! `base64url(header).base64url(claims).base64url(signature)`, without padding. Header: `alg` (`EdDSA`), `typ` (`JWT`), `kid` (the
//! voucher's name; without it each is tried). Claims: `sub`, `exp`, `aud`; `purpose`, `iat`, `nbf`, `iss`, `jti` may stand there, others not.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;

/// Longest token, in bytes.
const BYTES_MAX: usize = 2_048;
/// Longest name of a person, in bytes.
const SUBJECT_BYTES_MAX: usize = 255;
/// Longest life of a token: its `exp` is at most so far away, in seconds.
const LIFE_S: i64 = 900;
/// Clocks may differ by so much, in seconds.
const SKEW_S: i64 = 60;

/// `[vouchers.…]`: an application's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    name: String,
    key: VerifyingKey,
}

impl Voucher {
    /// The raw key of 32 bytes in base64, as `openssl pkey -pubout -outform DER | tail -c 32 | base64` prints it. `None`: it is none.
    pub fn new(name: &str, public_key: &str) -> Option<Self> {
        let bytes: [u8; 32] = STANDARD.decode(public_key).ok()?.try_into().ok()?;
        let key = VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())?;
        Some(Self { name: name.to_owned(), key })
    }
}

/// What a token says that holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Vouched {
    /// `sub`
    pub person: String,
    /// `purpose`: what alone it is good for.
    pub purpose: Option<String>,
    /// `exp`, seconds since the Unix epoch.
    pub until_s: i64,
}

impl fmt::Debug for Vouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vouched").field("until_s", &self.until_s).finish_non_exhaustive()
    }
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not of the form above.
    #[error("it is not a token of the form that pgveil reads")]
    Form,
    /// No key of `[vouchers]`, or not with that.
    #[error("no key of [vouchers] has signed it")]
    Signature,
    /// Meant for somebody else.
    #[error("it is not meant for this database")]
    Audience,
    /// Its time has not come, or is over, or is too long.
    #[error("its time is over, has not come, or is longer than 15 minutes")]
    Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    kid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    sub: String,
    exp: i64,
    aud: String,
    #[serde(default)]
    purpose: Option<String>,
    #[serde(default)]
    iat: Option<i64>,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default, rename = "iss")]
    _iss: Option<String>,
    #[serde(default, rename = "jti")]
    _jti: Option<String>,
}

/// Reads a token for one of `audience` at that time, in seconds since the Unix epoch.
///
/// # Errors
/// [`Invalid`]; the signature is looked at before the claims are.
pub fn read(token: &str, vouchers: &[Voucher], audience: &[&str], now_s: i64) -> Result<Vouched, Invalid> {
    let (header, claims) = signed(token, vouchers)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Invalid::Form)?;
    let printable =
        |text: &str| !text.is_empty() && text.len() <= SUBJECT_BYTES_MAX && !text.chars().any(char::is_control);
    if !printable(&claims.sub) || header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(Invalid::Form);
    }
    if !audience.contains(&claims.aud.as_str()) {
        return Err(Invalid::Audience);
    }
    let begins = claims.iat.unwrap_or(now_s).max(claims.nbf.unwrap_or(now_s));
    let left = claims.exp.checked_sub(now_s).filter(|left| (1..=LIFE_S).contains(left));
    if left.is_none() || begins > now_s.saturating_add(SKEW_S) {
        return Err(Invalid::Time);
    }
    Ok(Vouched { person: claims.sub, purpose: claims.purpose, until_s: claims.exp })
}

/// The header and the claims' bytes of a token whose signature holds.
fn signed(token: &str, vouchers: &[Voucher]) -> Result<(Header, Vec<u8>), Invalid> {
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Form);
    if token.len() > BYTES_MAX {
        return Err(Invalid::Form);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Invalid::Form)?;
    let (header, claims) = message.split_once('.').ok_or(Invalid::Form)?;
    let head: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| Invalid::Form)?;
    if head.alg != "EdDSA" {
        return Err(Invalid::Form);
    }
    let signature = Signature::from_slice(&decoded(signature)?).map_err(|_| Invalid::Form)?;
    let claims = decoded(claims)?;
    let mut keys = vouchers.iter().filter(|voucher| head.kid.as_ref().is_none_or(|kid| *kid == voucher.name));
    let holds = keys.any(|voucher| voucher.key.verify_strict(message.as_bytes(), &signature).is_ok());
    if holds { Ok((head, claims)) } else { Err(Invalid::Signature) }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn key(seed: u8) -> (SigningKey, Voucher) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let voucher = Voucher::new(&format!("v{seed}"), &STANDARD.encode(key.verifying_key().as_bytes())).unwrap();
        (key, voucher)
    }

    fn token(key: &SigningKey, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes());
        format!("{message}.{signature}")
    }

    fn claims(more: &str) -> String {
        format!("{{\"sub\":\"ann\",\"aud\":\"clinic\",\"exp\":{}{more}}}", NOW + 60)
    }

    #[test]
    fn a_signed_token_names_a_person_for_a_while() {
        let ((one, first), (two, second)) = (key(1), key(2));
        let read = |token: &str| read(token, &[first.clone(), second.clone()], &["clinic"], NOW);
        let ann = |purpose: Option<&str>| {
            Ok(Vouched { person: "ann".into(), purpose: purpose.map(str::to_owned), until_s: NOW + 60 })
        };
        assert_eq!(read(&token(&one, "{\"alg\":\"EdDSA\"}", &claims(""))), ann(None));
        let head = "{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"v2\"}";
        assert_eq!(
            read(&token(&two, head, &claims(",\"purpose\":\"care\",\"iat\":1,\"jti\":\"x\""))),
            ann(Some("care"))
        );
        assert_eq!(read(&token(&one, head, &claims(""))), Err(Invalid::Signature));
        assert_eq!(read(&token(&key(3).0, "{\"alg\":\"EdDSA\"}", &claims(""))), Err(Invalid::Signature));
    }

    #[test]
    fn everything_else_is_invalid() {
        let (one, first) = key(1);
        let vouchers = [first];
        let plain = "{\"alg\":\"EdDSA\"}";
        let at = |token: &str, now| read(token, &vouchers, &["clinic"], now).unwrap_err();
        for header in [
            "{\"alg\":\"none\"}",
            "{\"alg\":\"HS256\"}",
            "{\"alg\":\"eddsa\"}",
            "{\"alg\":\"EdDSA\",\"crit\":[]}",
            "{\"alg\":\"EdDSA\",\"alg\":\"EdDSA\"}",
            "{\"alg\":\"EdDSA\",\"typ\":\"JWE\"}",
            "[]",
            "",
        ] {
            assert_eq!(at(&token(&one, header, &claims("")), NOW), Invalid::Form, "{header}");
        }
        for more in [",\"admin\":true", ",\"sub\":\"bob\"", ",\"iat\":\"1\""] {
            assert_eq!(at(&token(&one, plain, &claims(more)), NOW), Invalid::Form, "{more}");
        }
        assert_eq!(at(&token(&one, plain, &claims("").replace("ann", "")), NOW), Invalid::Form);
        assert_eq!(at(&token(&one, plain, &claims("").replace("ann", "a\\nb")), NOW), Invalid::Form);
        assert_eq!(at(&token(&one, plain, &claims("").replace("clinic", "shop")), NOW), Invalid::Audience);
        let good = token(&one, plain, &claims(""));
        for (now, when) in [(NOW + 60, "over"), (NOW + 61, "over"), (NOW - 900, "too long"), (i64::MIN, "no time")] {
            assert_eq!(at(&good, now), Invalid::Time, "{when}");
        }
        assert_eq!(at(&token(&one, plain, &claims(&format!(",\"nbf\":{}", NOW + 61))), NOW), Invalid::Time);
        let (message, signature) = good.rsplit_once('.').unwrap();
        for bad in
            [format!("{good}="), format!("{message}."), message.to_owned(), format!("{good}.x"), "x".repeat(3_000)]
        {
            assert_eq!(at(&bad, NOW), Invalid::Form);
        }
        let other = token(&one, plain, &claims(",\"purpose\":\"x\""));
        assert_eq!(at(&format!("{}.{signature}", other.rsplit_once('.').unwrap().0), NOW), Invalid::Signature);
        assert_eq!(Voucher::new("weak", &STANDARD.encode([0; 32])), None);
        assert_eq!(Voucher::new("short", "AAAA"), None);
    }
}
