//! Rows read one by one, by keys that go on in equal steps: how somebody takes a table without ever asking for much.
//!
//! In: statements that released one row of a person with an integer key. Out: how long the walk is that the statement is
//! part of. Never: a key outside this session's memory, more than [`TABLES_MAX`] of them.

use std::sync::Arc;

use crate::event::{Access, Action};

/// Tables walked at the same time.
const TABLES_MAX: usize = 16;

/// Longer steps are no walk.
const STRIDE_MAX: u64 = 16;

/// Shorter walks are not told.
const TOLD_MIN: u32 = 3;

/// The keys of the people that a statement names, as far as they are one integer.
#[derive(Clone, Copy, Default)]
pub(super) enum Key {
    #[default]
    None,
    One(i64),
    Many,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Another person's key, in PostgreSQL's text form.
    pub(super) fn see(&mut self, text: &[u8]) {
        if matches!(self, Key::Many) {
            return;
        }
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        *self = match (*self, number) {
            (Key::None, Some(number)) => Key::One(number),
            (Key::One(before), Some(number)) if before == number => Key::One(number),
            _ => Key::Many,
        };
    }
}

/// One table's walk.
struct Walk {
    relation: Arc<str>,
    last: i64,
    stride: i64,
    length: u32,
}

/// The walks of a session, the one used last at the end.
#[derive(Default)]
pub(super) struct Walks(Vec<Walk>);

impl std::fmt::Debug for Walks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Walks").field(&self.0.len()).finish()
    }
}

impl Walks {
    /// A statement has ended. The length of the walk that it goes on with.
    pub(super) fn step(&mut self, action: &Action, rows: u64, key: Key) -> u32 {
        let (1, Key::One(key), Some(touch)) = (rows, key, action.touches.first()) else { return 0 };
        // New rows have keys in equal steps by nature.
        if !matches!(action.access, Access::Read | Access::Export) {
            return 0;
        }
        let walk = match self.0.iter().position(|walk| *walk.relation == *touch.relation) {
            Some(at) => Walk::go_on(self.0.remove(at), key),
            None => Walk { relation: touch.relation.clone(), last: key, stride: 0, length: 1 },
        };
        if self.0.len() >= TABLES_MAX {
            self.0.remove(0);
        }
        let length = walk.length;
        self.0.push(walk);
        if length < TOLD_MIN { 0 } else { length }
    }
}

impl Walk {
    fn go_on(mut self, key: i64) -> Self {
        let step = key.wrapping_sub(self.last);
        self.length = match step {
            // Looked at once more.
            0 => self.length,
            _ if step == self.stride => self.length.saturating_add(1),
            _ if step.unsigned_abs() <= STRIDE_MAX => 2,
            _ => 1,
        };
        if step != 0 {
            self.stride = if self.length > 1 { step } else { 0 };
        }
        self.last = key;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Shown, Touch};

    fn of(relation: &str) -> Action {
        let touch = Touch { relation: relation.into(), column: "id".into(), shown: Shown::Clear };
        Action { access: Access::Read, touches: vec![touch], ..Action::none() }
    }

    fn lengths(keys: &[i64]) -> Vec<u32> {
        let mut walks = Walks::default();
        keys.iter().map(|key| walks.step(&of("a"), 1, Key::One(*key))).collect()
    }

    #[test]
    fn a_walk_is_equal_steps_and_nothing_else() {
        assert_eq!(lengths(&[1, 2, 3, 4]), [0, 0, 3, 4]);
        assert_eq!(lengths(&[9, 7, 5, 3]), [0, 0, 3, 4], "backwards, by two");
        assert_eq!(lengths(&[1, 2, 2, 2, 3, 4]), [0, 0, 0, 0, 3, 4], "the same again is no step");
        assert_eq!(lengths(&[1, 2, 3, 5, 7, 9]), [0, 0, 3, 0, 3, 4], "another step begins anew");
        assert_eq!(lengths(&[5, 900, 17, 4]), [0; 4], "people looked up by chance");
        assert_eq!(lengths(&[0, 17, 34, 51]), [0; 4], "too wide");
        assert_eq!(lengths(&[i64::MAX, i64::MIN, i64::MIN + 1]), [0, 0, 3], "wraps and does not panic");
    }

    #[test]
    fn tables_are_walked_apart_and_not_too_many() {
        let mut walks = Walks::default();
        for key in 1..=30 {
            for table in ["a", "b"] {
                let length = walks.step(&of(table), 1, Key::One(key));
                assert_eq!(length, if key < 3 { 0 } else { u32::try_from(key).unwrap() });
            }
        }
        for n in 0..100 {
            walks.step(&of(&n.to_string()), 1, Key::One(1));
        }
        assert_eq!(walks.0.len(), TABLES_MAX);
        assert_eq!(walks.step(&of("a"), 1, Key::One(31)), 0, "forgotten");
    }

    #[test]
    fn only_one_row_by_one_integer_is_a_step() {
        let mut walks = Walks::default();
        for key in 1..=5 {
            assert_eq!(walks.step(&of("a"), 2, Key::One(key)), 0);
            assert_eq!(walks.step(&of("a"), 1, Key::Many), 0);
            assert_eq!(walks.step(&Action::none(), 1, Key::One(key)), 0);
            assert_eq!(walks.step(&Action { access: Access::Write, ..of("a") }, 1, Key::One(key)), 0);
        }
        let mut key = Key::default();
        key.see(b"41");
        key.see(b"41");
        assert!(matches!(key, Key::One(41)));
        key.see(b"42");
        assert!(matches!(key, Key::Many));
        let mut key = Key::default();
        key.see(b"parkiet");
        assert!(matches!(key, Key::Many));
        assert!(!format!("{:?}", Key::One(4711)).contains("4711"));
    }
}
