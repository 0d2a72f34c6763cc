//! What a finished statement means for those after it: names of statements, settings, definitions, claims.
//!
//! In: the step that has answered. Out: the session's memory of it. Never: a byte to either side.

use super::Session;
use super::pending::Running;
use crate::plan::{Step, StepKind};

impl Session {
    /// SQL's own statement names live beside the protocol's, and outlast a ROLLBACK like those.
    pub(super) fn note_handles(&mut self, running: &mut Running, tag: &[u8]) {
        if matches!(tag, b"DISCARD ALL\0" | b"DEALLOCATE ALL\0") {
            return self.statements_dropped();
        }
        match running.current().map(|step| &step.kind) {
            Some(StepKind::Prepare { .. }) => {
                if let Some(at) = running.prepares.iter().position(|(step, ..)| *step == running.step) {
                    let (_, name, prepared) = running.prepares.swap_remove(at);
                    self.statement_by_sql(&name, Some(prepared));
                }
            }
            Some(StepKind::Deallocate(name)) => {
                let name = name.clone();
                self.statement_by_sql(&name, None);
            }
            _ => {}
        }
    }

    /// What a finished statement means for names and settings.
    pub(super) fn note_effects(&mut self, step: Option<&Step>, done: bool) {
        // A suspended portal has run its first rows; one without a step was made by SQL.
        let moved = step.map_or(self.handles, |step| self.moved_by(step));
        self.unsettled |= moved.settings;
        self.in_block |= moved;
        let Some(step) = step.filter(|_| done) else { return };
        match &step.kind {
            StepKind::Ddl { temporary, protected } => {
                if let Some(name) = temporary {
                    self.names += u64::from(self.temporary.insert(name.to_string()));
                }
                let ddl = self.ddl.get_or_insert_default();
                ddl.protected |= *protected;
                ddl.far_reaching |= step.far_reaching;
                self.fresh.extend(step.creates_sealed.as_ref().map(|name| name.to_lowercase()));
            }
            StepKind::Transaction { restores, ends } => {
                self.unsettled |= *restores && self.in_block.settings;
                if *ends {
                    self.claims_ended();
                }
            }
            _ => {}
        }
    }
}
