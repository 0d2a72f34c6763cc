//! An array is an error or elements that join to an array of the same elements.

use pgveil::wire::array::{join, split};
use pgveil::wire::types::Format;

/// One input.
pub fn run(data: &[u8]) {
    for format in [Format::Text, Format::Binary] {
        let Ok(elements) = split(data, format) else { continue };
        for other in [Format::Text, Format::Binary] {
            let mut joined = Vec::new();
            join(&elements, 25, other, &mut joined).expect("it fitted one message already");
            assert_eq!(split(&joined, other).expect("what was joined splits"), elements);
        }
    }
}
