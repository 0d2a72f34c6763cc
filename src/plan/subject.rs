//! Whose rows a statement touches: the subject's key in the output, in WHERE, in VALUES.

use sqlparser::ast::{BinaryOperator, Expr};

use super::query::bare;
use super::reader::{Output, Reader, Sc};
use super::{SubjectFrom, SubjectPlan};

impl Reader<'_> {
    /// Conjuncts of the statement's own WHERE that fix the subject's key: `key = $1`, `key IN (…)`.
    pub(super) fn subject_in(&mut self, scope: &Sc<'_>, selection: &Expr) {
        if self.nesting > 1 {
            return;
        }
        let mut rest = vec![selection];
        while let Some(expr) = rest.pop() {
            match expr {
                Expr::Nested(inner) => rest.push(inner),
                Expr::BinaryOp { left, op: BinaryOperator::And, right } => rest.extend([&**left, &**right]),
                Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                    let _ = self.subject_is(scope, left, &[right]) || self.subject_is(scope, right, &[left]);
                }
                Expr::InList { expr, list, negated: false } => {
                    let list: Vec<&Expr> = list.iter().collect();
                    self.subject_is(scope, expr, &list);
                }
                _ => {}
            }
        }
    }

    fn subject_is(&mut self, scope: &Sc<'_>, key: &Expr, constants: &[&Expr]) -> bool {
        let base = bare(scope, key).and_then(|column| column.base);
        let Some(kind) = self.subject_key(base) else { return false };
        let Some(from) = self.named_by(constants) else { return false };
        self.found_subject(kind, from);
        true
    }

    /// The subject's key among the output columns comes first: it names the person of every row.
    pub(super) fn subject_plan(&self, output: &Output) -> Option<SubjectPlan> {
        let field = output.columns.iter().enumerate().find_map(|(index, column)| {
            let kind = self.subject_key(column.base)?;
            Some(SubjectPlan { kind, from: SubjectFrom::Field(u16::try_from(index).ok()?) })
        });
        match field {
            Some(field) if !output.open => Some(field),
            _ => self.subject.clone(),
        }
    }
}
