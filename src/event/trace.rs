//! Which trace of the client's a statement belongs to.
//!
//! In: a `traceparent` of W3C Trace Context. Out: its trace id. Never: anything else of what a client wrote.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A trace id: 128 bits, not all of them zero. Written as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(u128);

impl Trace {
    /// The id in a `traceparent` of version 00: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, lower case, neither id
    /// all zero (<https://www.w3.org/TR/trace-context/#traceparent-header>). Anything else has none.
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let parts: [&str; 4] = text.splitn(5, '-').collect::<Vec<_>>().try_into().ok()?;
        let [version, trace, parent, flags] = parts;
        digits(flags, 2).filter(|_| version == "00")?;
        digits(parent, 16).filter(|parent| *parent != 0)?;
        digits(trace, 32).filter(|trace| *trace != 0).map(Self)
    }
}

/// Exactly so many lower-case hex digits.
fn digits(text: &str, count: usize) -> Option<u128> {
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != count || !text.bytes().all(lower) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        digits(&text, 32).map(Self).ok_or_else(|| de::Error::custom("not a trace id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_traceparent_of_exactly_that_form_has_an_id() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = "00f067aa0ba902b7";
        let good = format!("00-{id}-{parent}-01");
        let trace = Trace::of_traceparent(&good).unwrap();
        assert_eq!(trace.to_string(), id);
        let json = serde_json::to_string(&trace).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str::<Trace>(&json).unwrap()), (&*format!("\"{id}\""), trace));
        for bad in [
            String::new(),
            good.to_uppercase(),
            good.replace("00-4", "ff-4"),
            good.replace("00-4", "01-4"),
            format!("{good}-"),
            format!("{good} "),
            format!("00-{id}-{parent}"),
            format!("00-{id}-{parent}-1"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-+{}-{parent}-01", &id[1..]),
            format!("00-{id}x-{parent}-01"),
            format!("00-é{}-{parent}-01", &id[2..]),
        ] {
            assert_eq!(Trace::of_traceparent(&bad), None, "{bad}");
        }
        assert!(serde_json::from_str::<Trace>("\"abc\"").is_err());
    }
}
