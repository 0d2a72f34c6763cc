//! A token comes from a client: only what our key has signed names a person, in whatever bytes it stands.

use pgveil::policy::voucher::{Voucher, read};

/// One input: a token of nobody's key. The key is the example of RFC 8037, A.2.
pub fn run(data: &[u8]) {
    let token = super::text(data);
    let voucher = Voucher::new("app", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").expect("a key");
    let read = |now| read(token, std::slice::from_ref(&voucher), &["clinic"], now);
    assert_eq!(read(1_800_000_000), read(1_800_000_000));
    // The only signature of that key in the corpus is RFC 8037's, whose claims are no JSON.
    assert!(read(1_800_000_000).is_err());
}
