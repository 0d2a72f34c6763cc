//! From what readings found to one plan: edits in order, the place of every parameter, hidden parameters.

use std::sync::Arc;

use super::refuse;
use super::value::{Groups, LeafKind, Place, cast_fits};
use super::{Edit, Hidden, Parameter, Replacement, Target};
use crate::error::Refusal;
use crate::sql::Span;
use crate::sql::lexer::Token;
use crate::sql::resolve::TypeText;

/// One place where a client parameter stands.
struct Use {
    index: u16,
    span: Span,
    place: Stands,
}

enum Stands {
    /// It fits any place (`$1 IS NULL`); a cast around it follows the parameter's.
    Anywhere(Vec<(Span, bool)>),
    Plain,
    Sealed(Target),
}

/// Edits and parameter places of a whole text.
#[derive(Default)]
pub(super) struct Draft {
    edits: Vec<Edit>,
    uses: Vec<Use>,
}

impl Draft {
    /// Takes over what one reading decided.
    pub(super) fn take(&mut self, groups: &Groups, tokens: &[Token]) -> Result<(), Refusal> {
        for group in groups.decided() {
            match &group.place {
                Place::Undecided | Place::Plain => {
                    let plain = matches!(group.place, Place::Plain);
                    let casts: Vec<_> = group.casts.iter().map(|(text, _)| (bytes(tokens, text), text.array)).collect();
                    for leaf in &group.leaves {
                        if let LeafKind::Parameter(index) = leaf.kind {
                            let place = if plain { Stands::Plain } else { Stands::Anywhere(casts.clone()) };
                            self.uses.push(Use { index, span: leaf.literal, place });
                        }
                    }
                }
                Place::Sealed { column, array, search } => {
                    let target = Target { column: column.clone(), array: *array, search: *search };
                    for (text, depth) in &group.casts {
                        let expected = i8::from(*array) + depth;
                        if !cast_fits(column, text) || i8::from(text.array) != expected {
                            return Err(refuse::cast(column));
                        }
                        let span = bytes(tokens, text);
                        let prefix = group.leaves.iter().any(|leaf| within(span, leaf.cover));
                        if !prefix {
                            self.edits.push(to_bytea(span, text.array));
                        }
                    }
                    for leaf in &group.leaves {
                        match leaf.kind {
                            LeafKind::Null => {}
                            LeafKind::Parameter(index) => {
                                let place = Stands::Sealed(target.clone());
                                self.uses.push(Use { index, span: leaf.literal, place });
                            }
                            LeafKind::Literal { negative } => {
                                let with =
                                    Replacement::Cell { target: target.clone(), literal: leaf.literal, negative };
                                self.edits.push(Edit { span: leaf.cover, with });
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a parameter has a sealed place.
    pub(super) fn seals_parameter(&self) -> Option<&Target> {
        self.uses.iter().find_map(|place| match &place.place {
            Stands::Sealed(target) => Some(target),
            _ => None,
        })
    }

    /// The plan's edits, the places of `mentioned` parameters, and hidden ones numbered after `declared`.
    pub(super) fn finish(mut self, mentioned: usize, declared: usize) -> (Vec<Edit>, Vec<Parameter>, Vec<Hidden>) {
        self.uses.sort_by_key(|place| place.span.start);
        let mut parameters = vec![Parameter::Plain; mentioned];
        let mut hidden: Vec<Hidden> = Vec::new();
        let plain: Vec<bool> = (0..mentioned)
            .map(|index| {
                self.uses.iter().any(|place| usize::from(place.index) == index && matches!(place.place, Stands::Plain))
            })
            .collect();
        for place in &self.uses {
            let Stands::Sealed(target) = &place.place else { continue };
            let Some(parameter) = parameters.get_mut(usize::from(place.index)) else { continue };
            let own = match parameter {
                Parameter::Plain if !plain[usize::from(place.index)] => {
                    *parameter = Parameter::Sealed(target.clone());
                    continue;
                }
                Parameter::Plain => None,
                Parameter::Sealed(first) => Some(first),
            };
            if let Some(first) = own
                && same(first, target)
            {
                first.search &= target.search;
                continue;
            }
            let known = hidden.iter_mut().position(|other| other.source == place.index && same(&other.target, target));
            let number = match known {
                Some(number) => {
                    hidden[number].target.search &= target.search;
                    number
                }
                None => {
                    hidden.push(Hidden { source: place.index, target: target.clone() });
                    hidden.len() - 1
                }
            };
            let text = format!("${}", mentioned.max(declared) + number + 1);
            self.edits.push(Edit { span: place.span, with: Replacement::Text(text.into()) });
        }
        for place in &self.uses {
            let Stands::Anywhere(casts) = &place.place else { continue };
            if let Some(Parameter::Sealed(_)) = parameters.get(usize::from(place.index)) {
                self.edits.extend(casts.iter().map(|(span, array)| to_bytea(*span, *array)));
            }
        }
        self.edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
        self.edits.dedup();
        (self.edits, parameters, hidden)
    }
}

/// A cast's type becomes bytea.
fn to_bytea(span: Span, array: bool) -> Edit {
    let with = if array { "bytea[]" } else { "bytea" };
    Edit { span, with: Replacement::Text(Arc::from(with)) }
}

fn same(left: &Target, right: &Target) -> bool {
    left.column.id == right.column.id && left.array == right.array
}

fn within(inner: Span, outer: Span) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn bytes(tokens: &[Token], text: &TypeText) -> Span {
    Span { start: tokens[text.first].span.start, end: tokens[text.end - 1].span.end }
}
