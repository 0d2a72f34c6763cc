//! The log against hands, crashes and full disks.

pub(crate) mod fake;
