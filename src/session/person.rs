//! Who is behind the login, where several people share it.
//!
//! In: the client's certificate; tokens in the setting `pgveil.actor` and in the tag `pgveil` of comments, of logins that the
//! policy lets vouch; the tag `user_id`. Out: the person in the session's events. Never: a right; a claim that does not hold is
//! a reason to refuse and nothing else.

use std::fmt;

use crate::error::{Code, Refusal};
use crate::event::{Actor, Part, Person, PersonBy};
use crate::policy::rules::Persons;
use crate::policy::voucher::{self, Vouched};
use crate::sql::comment;

use super::{Context, Session};

/// The setting with a token.
pub(super) const SETTING: &str = "pgveil.actor";
/// The tag with a token.
const TAG: &str = "pgveil";
/// The tag that says who it is, with nothing to show for it.
const ASSERTED: &str = "user_id";
/// For pseudonyms: no policy's kind of subject has a colon.
const KIND: &str = "pgveil:person";

/// What a session claims about persons.
#[derive(Default)]
pub(super) struct Claims {
    /// The login may vouch, so [`SETTING`] is asked for.
    pub(super) followed: bool,
    /// The server has been told of it.
    pub(super) defined: bool,
    /// Its value; empty: nothing is claimed by it.
    setting: String,
    /// What that says, if it held when it was set.
    vouched: Option<Vouched>,
    /// By the comment of the statement that was decided last.
    here: Option<Part<Actor>>,
}

impl Claims {
    /// Nothing is claimed yet.
    pub(super) fn new(followed: bool) -> Self {
        Self { followed, ..Self::default() }
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("followed", &self.followed).finish_non_exhaustive()
    }
}

fn denied(what: &str) -> Refusal {
    let hint = "Send a new token of an application under [vouchers], or RESET pgveil.actor.";
    Refusal::new(Code::PersonDenied, format!("the claim of who is behind this login does not hold: {what}"), hint)
}

impl Session {
    /// The setting's value as the server shows it.
    pub(super) fn person_shown(&mut self, value: &str) {
        if self.persons.setting != value {
            value.clone_into(&mut self.persons.setting);
            self.persons.vouched = None;
        }
    }

    /// The settings are known: who acts from here on.
    pub(super) fn know_person(&mut self, cx: &Context<'_>) {
        if self.transparent {
            return;
        }
        if self.persons.vouched.is_none() && !self.persons.setting.is_empty() {
            self.persons.vouched = self.vouched(&self.persons.setting, cx).ok();
        }
        let vouched = self.persons.vouched.as_ref().map(|vouched| self.named(&vouched.person, PersonBy::Vouched, cx));
        let certificate = || Some(self.named(self.actor.certificate.as_deref()?, PersonBy::Certificate, cx));
        let person = vouched.or_else(certificate);
        if self.actor.person != person {
            self.actor = Actor { person, ..Actor::clone(&self.actor) }.into();
        }
    }

    fn named(&self, name: &str, by: PersonBy, cx: &Context<'_>) -> Person {
        let own = cx.rules.class(cx.rules.class_of(&self.actor.role));
        let clear = by == PersonBy::Vouched && own.vouches == Some(Persons::Clear);
        let pseudonym = || cx.keyring.subject_pseudonym(KIND, name.as_bytes()).to_string();
        Person { person: if clear { name.to_owned() } else { pseudonym() }, person_by: by }
    }

    fn vouched(&self, token: &str, cx: &Context<'_>) -> Result<Vouched, Refusal> {
        if cx.rules.class(cx.rules.class_of(&self.actor.role)).vouches.is_none() {
            return Err(denied("the policy does not let this login vouch for persons"));
        }
        let now_s = cx.clock.now().unix_us.div_euclid(1_000_000);
        let read = voucher::read(token, &cx.rules.vouchers, &[&cx.rules.schema.database], now_s);
        read.map_err(|invalid| denied(&invalid.to_string()))
    }

    /// Who is behind a statement, if its comment says more than the session does.
    ///
    /// # Errors
    /// A token that does not hold or holds no longer, one for another purpose, two that name different persons.
    pub(super) fn person_of(&self, sql: &str, cx: &Context<'_>) -> Result<Option<Part<Actor>>, Refusal> {
        let tags = if sql.contains("*/") { comment::tags(sql) } else { Vec::new() };
        let tagged = |key: &str| tags.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        let set = match (&self.persons.vouched, self.persons.setting.as_str()) {
            (_, "") => None,
            (Some(known), _) if known.until_s > cx.clock.now().unix_us.div_euclid(1_000_000) => Some(known.clone()),
            (_, token) => Some(self.vouched(token, cx)?),
        };
        let said = tagged(TAG).map(|token| self.vouched(token, cx)).transpose()?;
        if let (Some(set), Some(said)) = (&set, &said)
            && set.person != said.person
        {
            return Err(denied("setting and comment name different persons"));
        }
        let purposes = [&set, &said].into_iter().flatten().filter_map(|vouched| vouched.purpose.as_deref());
        if purposes.into_iter().any(|purpose| self.class_purpose.as_deref() != Some(purpose)) {
            return Err(denied("it is for another purpose than this session acts for"));
        }
        let person = match (said, tagged(ASSERTED)) {
            (Some(said), _) => self.named(&said.person, PersonBy::Vouched, cx),
            (None, Some(name)) if self.actor.person.is_none() && !name.is_empty() => {
                self.named(name, PersonBy::Asserted, cx)
            }
            _ => return Ok(None),
        };
        Ok(Some(Actor { person: Some(person), ..Actor::clone(&self.actor) }.into()))
    }

    /// The same of a statement that is being decided; an objection counts where something protected may be touched.
    pub(super) fn person_objection(&mut self, sql: &str, counts: bool, cx: &Context<'_>) -> Option<Refusal> {
        let found = self.person_of(sql, cx);
        let (here, objection) = found.map_or_else(|refusal| (None, Some(refusal)), |here| (here, None));
        self.persons.here = here;
        objection.filter(|_| counts)
    }

    /// Who is behind the statement that was decided last.
    pub(super) fn person_here(&mut self) -> Option<Part<Actor>> {
        self.persons.here.take()
    }
}
