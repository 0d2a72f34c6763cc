//! What each sealed column still tells somebody who reads the database: said by `pgveil check`, so that it is chosen
//! knowingly.

use super::checked::Policy;
use super::rules::Mode;

/// One line per encrypted column, in the policy's order.
pub fn lines(policy: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    for table in &policy.tables {
        for column in &table.columns {
            let Some(sealing) = &column.sealing else { continue };
            let name = format!("{}.{}", table.qualified(), column.name.value);
            lines.push(match (sealing.mode, &sealing.same_as) {
                (Mode::Randomized, _) => format!("{name}: randomized: reveals each value's length and which are NULL"),
                (Mode::Deterministic, None) => format!(
                    "{name}: deterministic: also reveals which rows have the same value, and so each value's frequency"
                ),
                (Mode::Deterministic, Some(other)) => format!(
                    "{name}: deterministic: also reveals which rows have the same value, here and in {}",
                    other.value
                ),
            });
        }
    }
    lines
}
