//! From what readings found to one plan: edits in order, the place of every parameter, hidden parameters.

use std::collections::HashMap;
use std::sync::Arc;

use super::refuse;
use super::typing::Type;
use super::value::{Groups, Leaf, LeafKind, Place, cast_fits};
use super::{Edit, Hidden, Parameter, Replacement, Target};
use crate::error::Refusal;
use crate::policy::rules::SealedColumn;
use crate::sql::Span;
use crate::sql::lexer::Token;
use crate::sql::resolve::TypeText;
use crate::wire::types::{Kind, SqlType};
use crate::wire::value;

/// One place where a client parameter stands.
struct Use {
    index: u16,
    span: Span,
    place: Stands,
    /// The type it has by this place alone.
    ty: Type,
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
                    let casts: Vec<_> =
                        group.casts.iter().map(|cast| (bytes(tokens, &cast.text), cast.text.array)).collect();
                    for leaf in &group.leaves {
                        if let LeafKind::Parameter(index) = leaf.kind {
                            let place = if plain { Stands::Plain } else { Stands::Anywhere(casts.clone()) };
                            self.uses.push(Use { index, span: leaf.literal, place, ty: leaf.ty });
                        }
                    }
                }
                Place::Sealed { column, array, search } => {
                    for cast in &group.casts {
                        let text = &cast.text;
                        let expected = i8::from(*array) + cast.depth;
                        let fits = cast.alone || cast_fits(column, text);
                        if !fits || i8::from(text.array) != expected {
                            return Err(refuse::cast(column));
                        }
                        let span = bytes(tokens, text);
                        let prefix = group.leaves.iter().any(|leaf| within(span, leaf.cover));
                        if !prefix {
                            self.edits.push(to_bytea(span, text.array));
                        }
                    }
                    for leaf in &group.leaves {
                        if leaf.kind == LeafKind::Null {
                            continue;
                        }
                        let mut target = target(column, *array, *search, leaf)?;
                        match leaf.kind {
                            LeafKind::Null => {}
                            LeafKind::Parameter(index) => {
                                let place = Stands::Sealed(target);
                                self.uses.push(Use { index, span: leaf.literal, place, ty: leaf.ty });
                            }
                            LeafKind::Literal { negative } => {
                                target.casts = needed(&target);
                                let with = Replacement::Cell { target, literal: leaf.literal, negative };
                                self.edits.push(Edit { span: leaf.cover, with });
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Fixed text in place of a span, unless something stands there in its place already.
    pub(super) fn replace(&mut self, span: Span, text: Arc<str>) {
        if !self.edits.iter().any(|edit| edit.span.start < span.end && span.start < edit.span.end) {
            self.edits.push(Edit { span, with: Replacement::Text(text) });
        }
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
        let mut hidden_of: HashMap<u16, Vec<usize>> = HashMap::new();
        let mut plain = vec![false; mentioned];
        for place in self.uses.iter().filter(|place| is_plain(place)) {
            plain.get_mut(usize::from(place.index)).into_iter().for_each(|plain| *plain = true);
        }
        let settled = self.one_type();
        for place in &self.uses {
            let Stands::Sealed(target) = &place.place else { continue };
            let Some(parameter) = parameters.get_mut(usize::from(place.index)) else { continue };
            let own = match parameter {
                Parameter::Plain | Parameter::Typed(_) if !plain[usize::from(place.index)] => {
                    *parameter = Parameter::Sealed(target.clone());
                    continue;
                }
                Parameter::Plain | Parameter::Typed(_) => None,
                Parameter::Sealed(first) => Some(first),
            };
            if let Some(first) = own
                && same(first, target)
            {
                first.search &= target.search;
                continue;
            }
            let others = hidden_of.entry(place.index).or_default();
            let number = match others.iter().find(|other| same(&hidden[**other].target, target)) {
                Some(number) => {
                    hidden[*number].target.search &= target.search;
                    *number
                }
                None => {
                    others.push(hidden.len());
                    hidden.push(Hidden { source: place.index, target: target.clone() });
                    hidden.len() - 1
                }
            };
            let text = format!("${}", mentioned.max(declared) + number + 1);
            self.edits.push(Edit { span: place.span, with: Replacement::Text(text.into()) });
        }
        for (index, parameter) in parameters.iter_mut().enumerate() {
            if let (true, Some(Settled { oid, sealed: true })) =
                (plain[index], u16::try_from(index).ok().and_then(|index| settled.get(&index)))
            {
                *parameter = Parameter::Typed(*oid);
            }
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

/// The type a parameter has by the first place that gives it one.
struct Settled {
    oid: u32,
    /// That place is a sealed one, which comes before every plain one.
    sealed: bool,
}

impl Draft {
    /// The first place that gives a parameter a type gives it to all: a value is read as that type everywhere.
    fn one_type(&mut self) -> HashMap<u16, Settled> {
        let mut settled: HashMap<u16, Option<Settled>> = HashMap::new();
        for place in self.uses.iter().filter(|place| typed(place)) {
            settled.entry(place.index).or_insert_with(|| match place.ty {
                // What a plain place gives it, the server says.
                Type::Known(oid) if !is_plain(place) => {
                    Some(Settled { oid, sealed: matches!(place.place, Stands::Sealed(_)) })
                }
                _ => None,
            });
        }
        let settled: HashMap<u16, Settled> =
            settled.into_iter().filter_map(|(index, settled)| Some((index, settled?))).collect();
        for place in &mut self.uses {
            if let (Stands::Sealed(target), Some(Settled { oid, .. })) = (&mut place.place, settled.get(&place.index)) {
                target.from = *oid;
                target.casts = needed(target);
            }
        }
        settled
    }
}

/// The place gives a parameter a type. `$1 IS NULL` does not.
fn typed(place: &Use) -> bool {
    is_plain(place) || place.ty != Type::Unknown
}

fn is_plain(place: &Use) -> bool {
    matches!(place.place, Stands::Plain)
}

/// Without casts in front that change nothing.
fn needed(target: &Target) -> Arc<[SqlType]> {
    let own = if target.array { Kind::of_array_oid(target.from) } else { Kind::of_oid(target.from) };
    let same = |to: &SqlType, own: Kind| to.typmod == -1 && (to.kind == own || (to.kind.is_text() && own.is_text()));
    let useless = own.map_or(0, |own| target.casts.iter().take_while(|to| same(to, own)).count());
    if useless == 0 { target.casts.clone() } else { target.casts[useless..].into() }
}

/// What becomes of one constant of a sealed group.
fn target(column: &Arc<SealedColumn>, array: bool, search: bool, leaf: &Leaf) -> Result<Target, Refusal> {
    let casts = leaf.casts.as_deref().ok_or_else(|| refuse::cast(column))?;
    let from = match leaf.ty {
        Type::Unknown => 0,
        Type::Known(oid) => oid,
        Type::Foreign => return Err(refuse::cast(column)),
    };
    let element = |oid| if array { Type::Known(oid).element() } else { Type::Known(oid) };
    if let (Type::Known(mut last), true) = (element(from), from != 0) {
        for cast in casts {
            if !value::casts(last, cast.kind) {
                return Err(refuse::no_cast(column));
            }
            last = cast.kind.oid();
        }
    }
    Ok(Target { column: column.clone(), array, search, from, casts: casts.into() })
}

/// A cast's type becomes bytea.
fn to_bytea(span: Span, array: bool) -> Edit {
    let with = if array { "bytea[]" } else { "bytea" };
    Edit { span, with: Replacement::Text(Arc::from(with)) }
}

fn same(left: &Target, right: &Target) -> bool {
    left.column.id == right.column.id && left.array == right.array && left.casts == right.casts
}

fn within(inner: Span, outer: Span) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn bytes(tokens: &[Token], text: &TypeText) -> Span {
    Span { start: tokens[text.first].span.start, end: tokens[text.end - 1].span.end }
}
