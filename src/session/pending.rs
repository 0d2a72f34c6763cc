//! The mirror of what the server still owes: one entry per forwarded message, in order.
//!
//! In: what was forwarded. Out: whose reply a reply is. Never: a guess; statement and portal maps change when the
//! message is forwarded and are put back when the server refuses or skips it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::BytesMut;

use crate::clock::Now;
use crate::detect::Rule;
use crate::error::Refusal;
use crate::event::{Actor, Part, Subject, Trace};
use crate::plan::{Parameter, Plan, Refused, Step, Target};

use super::fields::Fields;
use super::handles::Undo;
use super::record::Tally;
use super::walk::Key;

/// A statement the client prepared.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The client's text, to decide again when the rules have changed.
    pub sql: Box<str>,
    /// Declared parameter types.
    pub oids: Box<[u32]>,
    /// The trace that the text's comment names.
    pub trace: Option<Trace>,
    /// Made by SQL PREPARE, so that nobody has described it yet.
    pub by_sql: bool,
    /// Decided under.
    pub rules_version: u64,
    /// And under the names of that time, see [`super::Session`].
    pub names: u64,
    /// What was decided.
    pub plan: Arc<Plan>,
    /// The same, decided again under newer rules: other words for the log.
    pub again: Mutex<Option<Arc<Plan>>>,
    /// Its output columns, once the server has described them.
    pub fields: OnceLock<Option<Arc<Fields>>>,
    /// The newest description of its result.
    pub described: Mutex<Option<Described>>,
    /// Its parameters' types as the server described them, hidden ones included.
    pub types: OnceLock<Box<[u32]>>,
}

/// A result as the server described it, and as the client was told: the same again each time a portal is described.
#[derive(Debug)]
pub(super) struct Described {
    by_server: Box<[u8]>,
    to_client: Box<[u8]>,
    rules_version: u64,
}

impl Described {
    /// Longer descriptions are not kept.
    const MAX: usize = 4 * 1024;
}

impl Prepared {
    /// Appends what the client is told, if that description is the one of last time.
    pub(super) fn tell_again(&self, by_server: &[u8], rules_version: u64, to_client: &mut BytesMut) -> bool {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |d: &&Described| d.rules_version == rules_version && *d.by_server == *by_server;
        let Some(known) = described.as_ref().filter(same) else { return false };
        to_client.extend_from_slice(&known.to_client);
        true
    }

    /// For the next [`Prepared::tell_again`].
    pub(super) fn told(&self, by_server: &[u8], rules_version: u64, to_client: &[u8]) {
        if by_server.len() <= Described::MAX {
            let described = Described { by_server: by_server.into(), to_client: to_client.into(), rules_version };
            *self.described.lock().unwrap_or_else(PoisonError::into_inner) = Some(described);
        }
    }

    /// The plan as last decided; under the rules it was made under nobody has to ask for another.
    pub(super) fn newest(&self, rules_version: u64) -> Arc<Plan> {
        if self.rules_version == rules_version {
            return self.plan.clone();
        }
        let again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.as_ref().unwrap_or(&self.plan).clone()
    }

    /// It was decided again, and the same is to be done.
    pub(super) fn decided_again(&self, plan: Arc<Plan>) {
        *self.again.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    /// Running it may open cells, which may turn out not to open. What returns no rows opens none.
    pub(super) fn opens(&self) -> bool {
        match self.fields.get() {
            Some(fields) => fields.as_ref().is_some_and(|fields| fields.any || fields.disagree),
            None => self.plan.steps.iter().any(|step| {
                let returns = step.fields.as_ref().is_none_or(|fields| !fields.is_empty());
                !step.touches.is_empty() && returns
            }),
        }
    }

    /// The type of the client's parameter `index`, whose value is also sealed for `target`: what the server says where
    /// it keeps the parameter itself, else what the plan settled.
    pub(super) fn type_of(&self, index: usize, target: &Target) -> u32 {
        let kept = matches!(self.plan.parameters.get(index), Some(Parameter::Plain));
        let described = self.types.get().and_then(|types| types.get(index)).copied();
        described.filter(|oid| kept && *oid != 0).unwrap_or_else(|| target.told())
    }
}

/// A portal the client bound.
#[derive(Debug)]
pub(super) struct Portal {
    /// Of that statement.
    pub statement: Arc<Prepared>,
    /// Result format codes as in Bind.
    pub result_formats: Box<[u8]>,
    /// Who is behind it, if that is another than the session says.
    pub actor: Option<Part<Actor>>,
    /// People named by its parameters.
    pub subjects: Vec<Subject>,
    /// The key, if they are one by an integer.
    pub key: Key,
    /// Rows that all its Executes have released, if somebody counts them.
    pub released: AtomicU64,
}

/// One message whose reply is still to come.
#[derive(Debug)]
pub(super) enum Pending {
    Query(Box<Running>),
    Parse {
        undo: Option<Undo>,
        refused: Option<Failing>,
    },
    Bind {
        undo: Option<Undo>,
        refused: Option<Failing>,
    },
    /// `own`: we asked, the client must not see the answer.
    DescribeStatement {
        statement: Option<Arc<Prepared>>,
        own: bool,
    },
    /// Without a portal it is of one that SQL made; `own`: for the Execute behind it.
    DescribePortal {
        portal: Option<Arc<Portal>>,
        own: bool,
    },
    Execute(Box<Running>),
    Close {
        undo: Option<Undo>,
    },
    Sync,
    /// A Flush that the server refuses, for it has a body; during COPY FROM STDIN it takes no notice.
    Flush,
    /// A function call made to fail.
    Call {
        refused: Option<Box<Refused>>,
    },
    /// A question of ours.
    Own(Own),
}

impl Pending {
    /// What takes its changes of names back.
    pub(super) fn undos(&self) -> &[Undo] {
        match self {
            Pending::Query(running) | Pending::Execute(running) => &running.undo,
            Pending::Parse { undo, .. } | Pending::Bind { undo, .. } | Pending::Close { undo } => undo.as_slice(),
            _ => &[],
        }
    }

    /// See [`Pending::undos`].
    pub(super) fn undos_mut(&mut self) -> &mut [Undo] {
        match self {
            Pending::Query(running) | Pending::Execute(running) => &mut running.undo,
            Pending::Parse { undo, .. } | Pending::Bind { undo, .. } | Pending::Close { undo } => undo.as_mut_slice(),
            _ => &mut [],
        }
    }

    /// See [`Pending::undos`].
    pub(super) fn take_undos(&mut self) -> Vec<Undo> {
        match self {
            Pending::Query(running) | Pending::Execute(running) => std::mem::take(&mut running.undo),
            Pending::Parse { undo, .. } | Pending::Bind { undo, .. } | Pending::Close { undo } => {
                undo.take().into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A message in whose place the server was made to fail.
#[derive(Debug)]
pub(super) struct Failing {
    pub refused: Box<Refused>,
    /// The SQLSTATE of that failure; with any other, the server has found something of its own before.
    pub expected: &'static [u8; 5],
}

/// The server says 25P02 before it would come to that failure: it is still a refusal for the access log.
pub(super) const ABORTED: [u8; 5] = *b"25P02";

/// Why we asked the server something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// SHOW of the settings we follow; counts the rows seen.
    Probe { row: u8 },
    /// SET of the search path.
    Path,
    /// A statement that fails the open transaction; the client's ReadyForQuery waits.
    Fail,
    /// A failing Parse in front of a held Sync.
    FailPipeline,
    /// BEGIN in front of a Query that may have to be undone.
    Begin,
    /// COMMIT or ROLLBACK behind it; the client's ReadyForQuery waits.
    End,
}

/// A statement that is running.
#[derive(Debug)]
pub(super) struct Running {
    /// What was decided; `None` for a portal or cursor we did not see being made.
    pub plan: Option<Arc<Plan>>,
    /// Which of the plan's steps answers now.
    pub step: usize,
    /// The server was made to fail in its place.
    pub refused: Option<Box<Refused>>,
    /// The SQLSTATE that failure must have.
    pub expected: &'static [u8; 5],
    /// A cell did not open: everything up to the end is swallowed.
    pub failed: Option<Refusal>,
    /// What the access log says of that.
    pub note: Option<String>,
    /// Under `mode = "observe"`: the detector's rule that would have stopped it.
    pub would_stop: Option<Rule>,
    /// The current result's fields.
    pub fields: Option<Arc<Fields>>,
    /// Result format codes of the Bind; `None`: those of the RowDescription count.
    pub formats: Option<Arc<Portal>>,
    /// The step, a protected write, whose intent was recorded before all was forwarded.
    pub intended: Option<usize>,
    /// It runs between a BEGIN and a COMMIT of ours, see [`super::limit`].
    pub wrapped: bool,
    /// The CommandComplete of its last step, which waits for that COMMIT.
    pub withheld: Option<Box<[u8]>>,
    /// When it came.
    pub started: Now,
    /// Its number in this connection.
    pub number: u64,
    /// The trace that its comment names.
    pub trace: Option<Trace>,
    /// Who is behind it, if that is another than the session says.
    pub actor: Option<Part<Actor>>,
    /// What it has done so far.
    pub tally: Tally,
    /// Under `mode = "observe"`: the server said something of it that would have been redacted.
    pub redacts: bool,
    /// The statements that the PREPARE steps of a simple Query make, by step and name.
    pub prepares: Vec<(usize, Arc<str>, Arc<Prepared>)>,
    /// A simple Query drops what has no name, and Execute of a PREPARE makes a statement, unless it is skipped.
    pub undo: Vec<Undo>,
}

impl Running {
    pub(super) fn new(plan: Option<Arc<Plan>>, started: Now, number: u64) -> Self {
        Self {
            plan,
            step: 0,
            refused: None,
            expected: b"42703",
            failed: None,
            note: None,
            would_stop: None,
            fields: None,
            formats: None,
            intended: None,
            wrapped: false,
            withheld: None,
            started,
            number,
            trace: None,
            actor: None,
            tally: Tally::default(),
            redacts: false,
            prepares: Vec::new(),
            undo: Vec::new(),
        }
    }

    /// The intent of the step that answers now has been recorded.
    pub(super) fn has_intent(&self) -> bool {
        self.tally.intent || self.intended == Some(self.step)
    }

    /// An intent has been recorded whose step has not ended.
    pub(super) fn owes_outcome(&self) -> bool {
        self.tally.intent || self.intended.is_some_and(|step| step >= self.step)
    }

    /// The step that answers now.
    pub(super) fn current(&self) -> Option<&Step> {
        self.plan.as_ref()?.steps.get(self.step)
    }
}
