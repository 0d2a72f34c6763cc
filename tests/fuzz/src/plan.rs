//! Any text: a decision, never a panic; edits ascend and stay inside the text; the same text is decided the same way.

use std::collections::HashSet;
use std::sync::Arc;

use pgveil::plan::{Cache, Decision, Request};
use pgveil::policy::rules::ClassId;

use super::rules::RULES;

/// One input.
pub fn run(data: &[u8]) {
    let sql = super::text(data);
    let temporary = HashSet::new();
    let path = [Arc::from("public")];
    let cache = Cache::new(0);
    for class in 0..3 {
        let request = Request {
            sql,
            parameter_oids: &[],
            extended: true,
            class: ClassId(class),
            role: "app",
            keys: 0,
            search_path: &path,
            temporary: &temporary,
            rules: &RULES,
        };
        let decision = cache.decide(&request);
        assert_eq!(format!("{decision:?}"), format!("{:?}", cache.decide(&request)));
        let (Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan)) = decision else { continue };
        let mut at = 0;
        for edit in &plan.edits {
            assert!(at <= edit.span.start && edit.span.start <= edit.span.end);
            assert!(sql.get(edit.span.start as usize..edit.span.end as usize).is_some());
            at = edit.span.end;
        }
    }
}
