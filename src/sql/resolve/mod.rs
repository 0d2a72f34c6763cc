//! Names → relations and columns.
//!
//! In: the tree's identifiers, a [`Schema`](super::schema::Schema), the session's search path. Out: relations, columns
//! and the scopes they are visible in. Never: policy; what a column means to the caller travels as the caller's own
//! type.

pub mod names;
pub mod scope;
pub mod types;

pub use names::{Found, Names, folded, names_nothing, parts};
pub use scope::{Column, Lookup, Rel, Scope};
pub use types::{Family, TypeText, type_at};
