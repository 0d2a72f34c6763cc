//! A text → a decision: which statements it holds, which of them must be read, what follows.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::assemble::Draft;
use super::reader::{Output, Reader};
use super::value::Value;
use super::{
    Decision, Field, Limits, Moves, Parameter, Plan, Refused, Request, Shape, Span, Step, StepKind, SubjectPlan,
    Target, Touched,
};
use super::{guard, handles, key, probe, refuse};
use crate::error::{Code, Refusal};
use crate::event::Access;
use crate::policy::functions::Functions;
use crate::policy::rules::Rules;
use crate::sql::kind::{self, Kind};
use crate::sql::lexer::{LexError, Token, TokenKind};
use crate::sql::name::{ident, is_ident};
use crate::sql::parse::{nesting, parse_statement, with_stack};
use crate::sql::resolve::Names;
use crate::sql::{lex, mentions, privacy, setting, shape, statements, string_value};
use sqlparser::ast::Statement;

/// Tokens of one text.
pub(super) const TOKENS_MAX: usize = 1_000_000;

/// Settings that decide how values look as text.
const STYLES: &[&str] = &["datestyle", "timezone", "intervalstyle", "bytea_output", "extra_float_digits"];

/// What to do with the text.
pub(super) fn decide(request: &Request<'_>, limits: Limits) -> Decision {
    let tokens = match lex(request.sql, TOKENS_MAX) {
        Ok(tokens) => tokens,
        Err(error) => return without_tokens(request, error),
    };
    if let Some(refused) = super::allowed::objection(request, &tokens) {
        return Decision::Refuse(refused);
    }
    let restricted = request.rules.class(request.class).restricted();
    let block = tokens.iter().any(|token| token.is_word(request.sql, "do"));
    let asks = super::lens::asks_schema(request, &tokens) || super::privacy::asks(request.sql, &tokens);
    if !restricted && !block && !asks && !mentions(request.sql, &tokens, &request.rules.names) {
        return unprotected(request, &tokens);
    }
    if tokens.len() > limits.tokens {
        let hint = "Send the values in several statements, as one array, or load data with COPY.";
        return beyond(Refusal::new(Code::Limit, "a text that names something protected has too many tokens", hint));
    }
    if nesting(&tokens) > limits.nesting {
        let hint = "Write it with fewer parentheses or brackets in each other.";
        return beyond(Refusal::new(Code::Limit, "a text that names something protected nests too deeply", hint));
    }
    with_stack(tokens.len(), || Text::new(request, &tokens).decide())
}

/// What is beyond a limit is not read.
fn beyond(refusal: Refusal) -> Decision {
    Decision::Refuse(Refused::new(refusal, Arc::from([]), Arc::new(Shape::unreadable())))
}

/// Nothing protected is mentioned; but a relation that is not known yet may be a view of something protected.
pub(super) fn unprotected(request: &Request<'_>, tokens: &[Token]) -> Decision {
    let plan = Arc::new(unread(request, tokens));
    // After a definition in the same text, its own names are new and the server's business.
    let defines = plan.steps.iter().any(|step| matches!(step.kind, StepKind::Ddl { .. }));
    let mut ranges = statements(tokens, request.sql).into_iter();
    if !defines && ranges.any(|range| probe::names_unknown(request, tokens, range)) {
        return Decision::Unknown(plan);
    }
    Decision::Pass(plan)
}

/// PostgreSQL cannot cut the text into tokens either, unless a limit was met. `$65536` and above it reads, and fails only
/// when it comes to that statement: the ones before may have run by then.
fn without_tokens(request: &Request<'_>, error: LexError) -> Decision {
    if matches!(error, LexError::TooLong | LexError::TooManyTokens) {
        let hint = "Send the statements one by one, or load data with COPY.";
        return beyond(Refusal::new(Code::Limit, "the text has too many tokens", hint));
    }
    if error == LexError::ParameterNumber {
        let hint = "The protocol carries 65535 parameters; send more values as arrays, or load them with COPY.";
        return beyond(Refusal::new(Code::Limit, "a parameter's number is above 65535", hint));
    }
    let lower = request.sql.to_lowercase();
    let named = request.rules.names.iter().any(|name| lower.contains(name.as_str()));
    let class = request.rules.class(request.class);
    if named || class.restricted() || !class.refuses.is_empty() {
        return beyond(refuse::unreadable("it cannot be cut into tokens"));
    }
    Decision::Pass(Arc::new(unreadable()))
}

/// The plan of a text that PostgreSQL cannot cut into tokens either.
pub(super) fn unreadable() -> Plan {
    let step = step(StepKind::Ordinary, Access::Other, Arc::new(Shape::unreadable()));
    Plan { edits: Vec::new(), parameters: Vec::new(), hidden: Vec::new(), steps: vec![step] }
}

pub(super) fn step(kind: StepKind, access: Access, shape: Arc<Shape>) -> Step {
    Step {
        kind,
        access,
        touches: Arc::from([]),
        touches_unknown: false,
        counted: false,
        shows: None,
        cursor: None,
        far_reaching: false,
        moves: Moves::default(),
        runs_handle: false,
        executes: None,
        creates_sealed: None,
        writes: false,
        fields: None,
        subject: None,
        shape,
        would: None,
        action: OnceLock::new(),
    }
}

/// The plan of a text that mentions nothing protected.
fn unread(request: &Request<'_>, tokens: &[Token]) -> Plan {
    let ranges = statements(tokens, request.sql);
    let mentioned = mentioned(request.sql, tokens, &ranges);
    let steps = if ranges.is_empty() {
        vec![step(StepKind::Empty, Access::Other, Arc::new(shape(request.sql, tokens)))]
    } else {
        ranges.into_iter().map(|range| unread_step(request, tokens, range)).collect()
    };
    Plan { edits: Vec::new(), parameters: vec![Parameter::Plain; mentioned], hidden: Vec::new(), steps }
}

/// The highest parameter number of the text. PREPARE and CREATE FUNCTION have numbers of their own.
pub(super) fn mentioned(sql: &str, tokens: &[Token], ranges: &[Range<usize>]) -> usize {
    let mut most = 0;
    for range in ranges {
        let own = match kind::kind(sql, tokens, range.clone()) {
            Kind::Prepare => true,
            Kind::Create => tokens[range.clone()]
                .iter()
                .take(4)
                .any(|token| token.is_word(sql, "function") || token.is_word(sql, "procedure")),
            _ => false,
        };
        for token in if own { &[] } else { &tokens[range.clone()] } {
            if let TokenKind::Param(number) = token.kind {
                most = most.max(usize::from(number));
            }
        }
    }
    most
}

/// The step of a statement that mentions nothing protected, by its first words.
pub(super) fn unread_step(request: &Request<'_>, tokens: &[Token], range: Range<usize>) -> Step {
    let sql = request.sql;
    let own = &tokens[range.clone()];
    let mut kind = kind::kind(sql, tokens, range.clone());
    let mut made = kind::created(sql, tokens, range.clone());
    let explains = kind == Kind::Explain;
    if explains {
        (kind, made) = match kind::inner(sql, tokens, range.clone()) {
            Some(inner) if inner.runs => {
                (kind::kind(sql, tokens, inner.range.clone()), kind::created(sql, tokens, inner.range))
            }
            _ => (Kind::Show, None),
        };
    }
    let named = handles::statement(sql, tokens, range.clone());
    let into = made.is_some() && matches!(kind, Kind::Query | Kind::With);
    let temporary = made.filter(|made| made.temporary).map(|made| made.name.into());
    let calls = guard::calls_of(sql, own, &request.rules.schema);
    let changes =
        own.iter().any(|token| ["insert", "update", "delete", "merge"].iter().any(|word| token.is_word(sql, word)));
    let (step_kind, access, writes) = match kind {
        _ if kind.is_transaction() => {
            let (restores, ends) = (kind.restores_settings(), kind.ends_transaction());
            (StepKind::Transaction { restores, ends }, Access::Other, false)
        }
        Kind::Query | Kind::With if into => (StepKind::Ddl { temporary, protected: false }, Access::Write, true),
        Kind::Query => (StepKind::Ordinary, Access::Read, false),
        Kind::With if changes => (StepKind::Ordinary, Access::Write, true),
        Kind::With => (StepKind::Ordinary, Access::Read, false),
        Kind::Insert | Kind::Update | Kind::Merge => (StepKind::Ordinary, Access::Write, true),
        Kind::Delete | Kind::Truncate => (StepKind::Ordinary, Access::Delete, true),
        Kind::Copy => {
            let out = own.iter().any(|token| token.is_word(sql, "to"));
            let data = super::copy::reads_client(sql, tokens, range.clone());
            let kind = if data { StepKind::CopyIn(None) } else { StepKind::Ordinary };
            (kind, if out { Access::Export } else { Access::Write }, !out)
        }
        Kind::Set
        | Kind::SetTransaction
        | Kind::SetConstraints
        | Kind::Reset
        | Kind::Discard
        | Kind::Do
        | Kind::Call
        | Kind::Load => (StepKind::Ordinary, Access::Other, matches!(kind, Kind::Do | Kind::Call)),
        Kind::Declare => (StepKind::Declare, Access::Other, false),
        Kind::Refresh => (StepKind::Ddl { temporary: None, protected: false }, Access::Other, true),
        _ if kind.is_ddl() => (StepKind::Ddl { temporary, protected: false }, Access::Other, true),
        Kind::Fetch | Kind::Execute => (StepKind::Ordinary, Access::Read, false),
        Kind::Show if own.len() == 2 && own[0].is_word(sql, "show") && *ident(sql, &own[1]) == *"search_path" => {
            (StepKind::ShowPath, Access::Other, false)
        }
        _ => (StepKind::Ordinary, Access::Other, false),
    };
    let mut step = step(step_kind, access, Arc::new(shape(sql, own)));
    step.writes = writes;
    step.far_reaching = matches!(step.kind, StepKind::Ddl { .. })
        && (!kind::is_local(sql, tokens, range.clone()) || calls.user || names_seal(sql, own));
    step.touches_unknown = calls.user || calls.sql || matches!(kind, Kind::Do | Kind::Call);
    step.counted = !explains && (step.touches_unknown || matches!(kind, Kind::Fetch | Kind::Execute));
    step.cursor = handles::cursor(sql, tokens, range.clone());
    if let (StepKind::Ordinary, Some(named)) = (&step.kind, named) {
        step.kind = named;
    }
    step.executes = kind::executed(sql, tokens, range);
    step.runs_handle = matches!(kind, Kind::Fetch | Kind::Move) || step.executes.is_some();
    // An UPDATE of that view calls set_config.
    let unseen = mentions(sql, own, &request.rules.schema.movers)
        || (step.writes && own.iter().any(|token| is_ident(token) && *ident(sql, token) == *"pg_settings"));
    if unseen {
        step.moves = Moves { settings: true, names: true, style: true };
    } else if sets(kind) || calls.settings || calls.user || calls.sql {
        let settings =
            ["search_path", "role", "session_authorization", "pgveil.purpose", "pgveil.actor", "application_name"];
        // An application's name may claim a purpose, and so may code that users have written.
        let acts = request.rules.class(request.class).purpose.is_some();
        let settings = &settings[..settings.len() - usize::from(!acts)];
        let words = ["schema", "authorization", "purpose", "actor"];
        let names = (acts && calls.user) || moves(sql, own, settings, &words);
        step.moves = Moves { settings: true, names, style: moves(sql, own, STYLES, &["zone"]) };
    }
    step
}

/// Statements that exist to change settings, or that run code nobody has read.
fn sets(kind: Kind) -> bool {
    use Kind::{Call, Discard, Do, Load, Reset, Set, SetConstraints, SetTransaction};
    matches!(kind, Set | SetTransaction | SetConstraints | Reset | Discard | Do | Call | Load)
}

/// A domain of ours is named: a column may become a sealed one.
fn names_seal(sql: &str, own: &[Token]) -> bool {
    own.iter().any(|token| {
        let text = written(sql, token).to_ascii_lowercase();
        text.contains("pgveil") || text.contains("sealed_")
    })
}

/// Statements whose literals and columns must be decided.
fn reads(kind: Kind) -> bool {
    use Kind::{Copy, Declare, Delete, Explain, Insert, Merge, Prepare, Query, Update, With};
    matches!(kind, Query | With | Insert | Update | Delete | Merge | Copy | Declare | Prepare | Explain)
}

/// Statements that neither compute a value nor touch a relation's definition.
fn quiet(kind: Kind) -> bool {
    use Kind::{Close, Comment, Deallocate, Discard, Drop, Fetch, Grant, Listen, Load, Lock, Move, Notify};
    use Kind::{Reset, Revoke, Set, SetConstraints, SetTransaction, Show, Unlisten};
    let session = matches!(kind, Set | SetTransaction | SetConstraints | Reset | Discard | Show | Load | Lock);
    let handles = matches!(kind, Close | Deallocate | Fetch | Move | Listen | Notify | Unlisten);
    kind.is_transaction() || session || handles || matches!(kind, Drop | Grant | Revoke | Comment)
}

/// Whether SET, RESET, DISCARD or set_config may change one of these settings, which SET also calls by these words.
fn moves(sql: &str, own: &[Token], settings: &[&str], words: &[&str]) -> bool {
    let computed = |name: &Option<String>| name.as_ref().is_none_or(|name| settings.contains(&name.as_str()));
    let named = |token: &Token| {
        let text = written(sql, token).to_ascii_lowercase();
        settings.iter().any(|setting| text.contains(setting)) || text == "all" || words.contains(&text.as_str())
    };
    own.iter().any(named) || setting::set_config(sql, own).iter().any(computed)
}

/// What a token says: a name unescaped, a string decoded.
fn written<'a>(sql: &'a str, token: &Token) -> Cow<'a, str> {
    match token.kind {
        TokenKind::String | TokenKind::DollarString => {
            string_value(sql, token).unwrap_or_else(|_| Cow::Borrowed(token.text(sql)))
        }
        _ => ident(sql, token),
    }
}

/// One text being decided.
pub(super) struct Text<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) tokens: &'a [Token],
    pub(super) restricted: bool,
    draft: Draft,
    /// Temporary names, those of earlier statements of the text included.
    pub(super) temporary: HashSet<String>,
    pub(super) unknown: bool,
    pub(super) protected: bool,
    /// See [`Reader::shows`].
    pub(super) shows: Option<Arc<str>>,
    /// Relations with sealed columns that earlier statements of the text make.
    fresh: HashSet<String>,
    /// Values may have another form after an earlier statement.
    restyled: bool,
    /// Why names are not certain after an earlier statement.
    pub(super) stale: Option<&'static str>,
    /// Where the key of a plain SELECT's rows stands.
    key: Option<key::Key>,
    /// Parameters of reports that are for sealed columns.
    pub(super) reported: Vec<(usize, Target)>,
}

impl<'a> Text<'a> {
    fn new(request: &'a Request<'a>, tokens: &'a [Token]) -> Self {
        Self {
            request,
            tokens,
            restricted: request.rules.class(request.class).restricted(),
            draft: Draft::default(),
            temporary: request.temporary.clone(),
            unknown: false,
            protected: false,
            shows: None,
            fresh: HashSet::new(),
            restyled: false,
            stale: None,
            key: None,
            reported: Vec::new(),
        }
    }

    fn decide(mut self) -> Decision {
        let sql = self.request.sql;
        let ranges = statements(self.tokens, sql);
        if ranges.is_empty() {
            return Decision::Pass(Arc::new(unread(self.request, self.tokens)));
        }
        let mut steps = Vec::with_capacity(ranges.len());
        for range in &ranges {
            let mut touches = Vec::new();
            match self.statement(range.clone(), &mut touches) {
                Ok(step) if self.restyled && styled(self.request.rules, &step) => {
                    let refusal = refuse::stale("the form of values may change");
                    return Decision::Refuse(Refused::new(refusal, touches.into(), step.shape));
                }
                Ok(step) => {
                    self.after(&step);
                    steps.push(step);
                }
                Err(refusal) => {
                    let shape = Arc::new(shape(sql, &self.tokens[range.clone()]));
                    return Decision::Refuse(Refused::new(refusal, touches.into(), shape));
                }
            }
        }
        let mentioned = mentioned(sql, self.tokens, &ranges);
        let (edits, mut parameters, hidden) = self.draft.finish(mentioned, self.request.parameter_oids.len());
        for (index, target) in self.reported {
            parameters.get_mut(index).into_iter().for_each(|of| *of = Parameter::Sealed(target.clone()));
        }
        let acts = self.protected || !edits.is_empty();
        let plan = Arc::new(Plan { edits, parameters, hidden, steps });
        match (self.unknown, acts) {
            (true, _) => Decision::Unknown(plan),
            (false, true) => Decision::Act(plan),
            (false, false) => Decision::Pass(plan),
        }
    }

    /// What later statements of the text must know.
    fn after(&mut self, step: &Step) {
        self.restyled |= step.moves.style;
        let StepKind::Ddl { temporary, protected } = &step.kind else {
            if step.moves.names || step.touches_unknown {
                self.stale = Some("the search path may change");
            }
            return;
        };
        self.temporary.extend(temporary.as_ref().map(ToString::to_string));
        self.fresh.extend(step.creates_sealed.as_ref().map(|name| name.to_lowercase()));
        if step.moves.names {
            self.stale = Some("the search path may change");
        }
        if *protected {
            self.stale = Some("a protected table changes");
        }
    }

    fn statement(&mut self, range: Range<usize>, touches: &mut Vec<Touched>) -> Result<Step, Refusal> {
        let request = self.request;
        let sql = request.sql;
        let own = &self.tokens[range.clone()];
        if mentions(sql, own, &self.fresh) && reads(kind::kind(sql, self.tokens, range.clone())) {
            return Err(refuse::stale("a table with sealed columns is made"));
        }
        if let Some(asked) = privacy::asked(sql, self.tokens, range.clone()) {
            return self.privacy(range, &asked, touches);
        }
        let named = mentions(sql, own, &request.rules.names);
        if kind::kind(sql, self.tokens, range.clone()) == Kind::Do && !self.restricted {
            return self.block(range);
        }
        if !named && !self.restricted {
            self.name_views(range.clone())?;
            return Ok(unread_step(request, self.tokens, range));
        }
        if named && let Some(what) = self.stale {
            return Err(refuse::stale(what));
        }
        if self.restricted {
            if kind::executed(sql, self.tokens, range.clone()).is_some() {
                return Err(refuse::prepared());
            }
            self.runs_users_code(range.clone())?;
        }
        let step = self.protected_statement(range.clone(), named, touches)?;
        self.name_views(range)?;
        Ok(step)
    }

    /// One that names something protected, or may for all that a restricted class can be told.
    fn protected_statement(
        &mut self,
        range: Range<usize>,
        named: bool,
        touches: &mut Vec<Touched>,
    ) -> Result<Step, Refusal> {
        let kind = kind::kind(self.request.sql, self.tokens, range.clone());
        if reads(kind) {
            let own = &self.tokens[range.clone()];
            guard::check_sealed_calls(self.request.sql, own, &self.request.rules.schema.sealed_functions)?;
        }
        match kind {
            Kind::Query | Kind::With | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge => {
                self.read(range.clone(), range, touches)
            }
            // The server makes its plan anew when a view or function has changed, and EXECUTE does not show the text.
            Kind::Prepare if self.restricted => Err(refuse::prepared()),
            Kind::Explain if !self.request.rules.class(self.request.class).filtered.is_empty() => {
                let refusal = refuse::function("EXPLAIN, which counts rows that are hidden,");
                Err(Refusal { hint: "EXPLAIN (PRIVACY) says what the statement would show.".into(), ..refusal })
            }
            Kind::Explain | Kind::Declare | Kind::Prepare => self.inside(range, touches),
            Kind::Copy => self.copy(range, named, touches),
            Kind::Do | Kind::Call if self.restricted => Err(refuse::function("DO or CALL")),
            Kind::ImportForeignSchema if self.restricted => Err(refuse::function("IMPORT FOREIGN SCHEMA")),
            Kind::Unknown => Err(refuse::unreadable("no statement begins like this")),
            _ => self.definition(range, named, touches),
        }
    }

    /// See [`Draft::replace`].
    pub(super) fn replace(&mut self, span: Span, text: Arc<str>) {
        self.draft.replace(span, text);
    }

    /// What names mean to the session here.
    pub(super) fn names(&self) -> Names<'_> {
        let Request { rules, search_path, .. } = self.request;
        Names { schema: &rules.schema, path: search_path, temporary: &self.temporary }
    }

    /// Refused if a restricted class would make users' code run.
    fn runs_users_code(&self, range: Range<usize>) -> Result<(), Refusal> {
        let (sql, code) = (self.request.sql, &self.request.rules.code);
        // A parameter's type need not stand in the text.
        if let Some(reached) = self.request.parameter_oids.iter().find_map(|oid| code.types.get(oid)) {
            return Err(refuse::users_code(reached));
        }
        let own = &self.tokens[range.clone()];
        guard::check_calls(sql, own, code, Functions::of(self.request.rules.schema.server_version))?;
        let kind = kind::kind(sql, self.tokens, range.clone());
        let defines = matches!(unread_step(self.request, self.tokens, range.clone()).kind, StepKind::Ddl { .. });
        let computes = reads(kind) || !quiet(kind);
        let copies = reads(kind) || (kind == Kind::Create && self.creates_by_query(&range));
        let writes = !copies || guard::changes(sql, own);
        guard::check_names(sql, own, code, guard::Runs { computes, writes, defines })
    }

    /// DO: nobody reads the code, so it may not name a protected relation.
    fn block(&self, range: Range<usize>) -> Result<Step, Refusal> {
        let sql = self.request.sql;
        if named_in_strings(sql, &self.tokens[range.clone()], &self.request.rules.names, STRINGS_IN_STRINGS_MAX) {
            return Err(refuse::unreadable("the code of a DO block"));
        }
        Ok(unread_step(self.request, self.tokens, range))
    }

    /// EXPLAIN, DECLARE and PREPARE: the statement inside is read.
    fn inside(&mut self, range: Range<usize>, touches: &mut Vec<Touched>) -> Result<Step, Refusal> {
        let sql = self.request.sql;
        let outer = kind::kind(sql, self.tokens, range.clone());
        let inner = kind::inner(sql, self.tokens, range.clone())
            .ok_or_else(|| refuse::unreadable("the statement inside it"))?;
        let readable = matches!(
            kind::kind(sql, self.tokens, inner.range.clone()),
            Kind::Query | Kind::With | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge
        );
        if !readable {
            return Err(refuse::unreadable("the statement inside it"));
        }
        let mut step = self.read(range, inner.range, touches)?;
        match outer {
            Kind::Explain => {
                step.fields = Some(vec![Field::Plain]);
                step.subject = None;
                step.counted = false;
                step.writes &= inner.runs;
                step.access = if step.writes { step.access } else { Access::Other };
            }
            Kind::Prepare => {
                if let Some(target) = self.draft.seals_parameter() {
                    return Err(Refusal::new(
                        Code::SealedUse,
                        format!("PREPARE has a parameter for sealed column {}", refuse::name(&target.column)),
                        "Use protocol-level prepared statements, which every driver has, instead of PREPARE.",
                    ));
                }
                step.fields = Some(Vec::new());
                step.writes = false;
            }
            _ => step.fields = Some(Vec::new()),
        }
        Ok(step)
    }

    /// SELECT, INSERT, UPDATE, DELETE, MERGE.
    fn read(&mut self, range: Range<usize>, tree: Range<usize>, touches: &mut Vec<Touched>) -> Result<Step, Refusal> {
        let mut step = unread_step(self.request, self.tokens, range.clone());
        let before = std::mem::take(&mut self.protected);
        self.shows = None;
        self.key = None;
        let whole = tree == range;
        let read = self.read_tree(tree, touches);
        step.shows = self.shows.take();
        step.counted |= self.protected;
        self.protected |= before;
        let (output, (writes, subject)) = read?;
        if matches!(step.kind, StepKind::Ddl { .. }) {
            self.copies(&mut step, range.clone())?;
            if sealed(&output).is_some() {
                self.creates_sealed(&mut step, range.clone())?;
            }
        }
        step.writes |= writes;
        step.touches = touches.as_slice().into();
        step.subject = subject;
        step.fields = fields(&output);
        if let Some(key) = self.key.take().filter(|_| whole && step.kind == StepKind::Ordinary) {
            self.add_key(&mut step, range, &key);
        }
        Ok(step)
    }

    /// The tree is read completely, or the statement refused. Whether it writes, and whose rows.
    pub(super) fn read_tree(
        &mut self,
        tree: Range<usize>,
        touches: &mut Vec<Touched>,
    ) -> Result<(Output, (bool, Option<SubjectPlan>)), Refusal> {
        self.with_reader(tree, touches, |reader, statement| {
            let output = reader.statement(statement)?;
            reader.settle(&output)?;
            let found = (reader.writes || reader.into, reader.subject_plan(&output));
            let key = reader.key.take().filter(|_| key::plain(statement) && key::countable(&output));
            Ok(((output, found), key))
        })
        .map(|(read, key)| {
            self.key = key;
            read
        })
    }

    /// Reads one tree and takes over what was found, also when it is refused.
    pub(super) fn with_reader<T>(
        &mut self,
        tree: Range<usize>,
        touches: &mut Vec<Touched>,
        read: impl FnOnce(&mut Reader<'_>, &Statement) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let parsed = parse_statement(self.request.sql, self.tokens, tree.clone())
            .map_err(|error| refuse::unreadable(&error.to_string()))?;
        self.reading(touches, |reader| {
            let found = read(reader, &parsed)?;
            reader.complete(tree)?;
            Ok(found)
        })
    }

    /// Runs a reading and takes over what was found, also when it is refused.
    pub(super) fn reading<T>(
        &mut self,
        touches: &mut Vec<Touched>,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let temporary = std::mem::take(&mut self.temporary);
        let mut reader = Reader::new(self.request, &temporary, self.tokens);
        let outcome = read(&mut reader).and_then(|found| {
            self.draft.take(&reader.groups, self.tokens)?;
            Ok(found)
        });
        touches.append(&mut reader.touches);
        self.unknown |= reader.unknown;
        self.protected |= reader.protected;
        self.shows = self.shows.take().or_else(|| reader.shows.take());
        drop(reader);
        self.temporary = temporary;
        outcome
    }
}

/// `DO $$ … EXECUTE 'SELECT …' … $$`: deeper quoting is taken for a mention.
pub(super) const STRINGS_IN_STRINGS_MAX: u32 = 4;

/// Whether code in string constants mentions one of the names, or cannot be told.
pub(super) fn named_in_strings(sql: &str, tokens: &[Token], names: &HashSet<String>, depth: u32) -> bool {
    let strings = tokens.iter().filter(|token| matches!(token.kind, TokenKind::String | TokenKind::DollarString));
    strings.into_iter().any(|token| {
        let Ok(text) = string_value(sql, token) else { return true };
        let Ok(inside) = lex(&text, TOKENS_MAX) else { return depth == STRINGS_IN_STRINGS_MAX };
        depth == 0 || mentions(&text, &inside, names) || named_in_strings(&text, &inside, names, depth - 1)
    })
}

/// Whether a sealed column that it reads, searches or fills holds values whose text depends on [`STYLES`]. What is erased
/// is not read.
pub fn styled(rules: &Rules, step: &Step) -> bool {
    use crate::wire::types::Kind::{Bytea, Date, Float4, Float8, Interval, Time, Timestamp, Timestamptz};
    let kind = |touched: &Touched| rules.by_id.get(&touched.id).map(|column| column.ty.kind);
    let erased = |touched: &&Touched| step.access == Access::Delete && touched.how == super::How::Written;
    step.touches
        .iter()
        .filter(|touched| !erased(touched))
        .filter_map(kind)
        .any(|kind| matches!(kind, Date | Time | Timestamp | Timestamptz | Interval | Float4 | Float8 | Bytea))
}

/// Some output column is sealed.
pub(super) fn sealed(output: &Output) -> Option<&Value> {
    let guarded = |value: &&Value| matches!(value, Value::Sealed(_) | Value::SealedArray(_) | Value::Untyped(_));
    output.columns.iter().map(|column| &column.value).find(guarded)
}

/// What the resolver says of the output columns.
pub(super) fn fields(output: &Output) -> Option<Vec<Field>> {
    (!output.open).then(|| {
        output
            .columns
            .iter()
            .map(|column| match &column.value {
                Value::Sealed(column) => Field::Sealed(column.clone()),
                Value::SealedArray(column) => Field::SealedArray(column.clone()),
                _ => Field::Plain,
            })
            .collect()
    })
}

impl Reader<'_> {
    /// A query or data change; the output is what it returns.
    pub(super) fn statement(&mut self, statement: &Statement) -> Result<Output, Refusal> {
        match statement {
            Statement::Query(query) => self.query(None, query),
            Statement::Insert(insert) => self.insert(None, insert),
            Statement::Update(update) => self.update(None, update),
            Statement::Delete(delete) => self.delete(None, delete),
            Statement::Merge(merge) => self.merge(None, merge),
            _ => Err(refuse::unreadable("this kind of statement")),
        }
    }

    /// Constants that reach the client, or a new relation, are what they are.
    pub(super) fn settle(&mut self, output: &Output) -> Result<(), Refusal> {
        for column in &output.columns {
            if matches!(column.value, Value::Pending { .. }) {
                self.plain(&column.value, "an output column")?;
            }
        }
        Ok(())
    }
}
