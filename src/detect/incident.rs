//! What an incident is and what may be done with it next: detected → aware → contained → notified → closed.
//!
//! In: how far it is, the next step, the time. Out: how far it is then, or why not and what to do instead. Never: a
//! clock of its own, a step undone.

use std::fmt;

/// Alerts about one actor become one incident while they are no further apart.
pub const GROUP_US: i64 = 24 * HOUR_US;
/// The supervisory authority is told within this time of becoming aware (GDPR, Article 33(1)).
pub const AUTHORITY_US: i64 = 72 * HOUR_US;
/// The people concerned are told within this time of discovery (HIPAA, 45 CFR 164.404).
pub const HIPAA_US: i64 = 60 * 24 * HOUR_US;
/// From so many people on, the Secretary is told within the same time, and beyond it the media (45 CFR 164.406, 408).
pub const HIPAA_PEOPLE: u64 = 500;

const HOUR_US: i64 = 3_600_000_000;

/// What it turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has said.
    Open,
    /// What was counted did not happen as it looked.
    FalsePositive,
    /// It happened, and was allowed.
    Benign,
    /// A breach of personal data.
    Incident,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 4] = [Self::Open, Self::FalsePositive, Self::Benign, Self::Incident];

    /// The word in tables and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::FalsePositive => "false_positive",
            Self::Benign => "benign",
            Self::Incident => "incident",
        }
    }

    /// The verdict of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}

/// How far an incident is: when each step was taken, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The first alert.
    pub detected_us: i64,
    /// Somebody was reasonably certain that personal data is concerned: the clocks run.
    pub aware_us: Option<i64>,
    /// It goes on no more.
    pub contained_us: Option<i64>,
    /// The authority was told.
    pub notified_us: Option<i64>,
    /// The people concerned were told.
    pub subjects_notified_us: Option<i64>,
    /// Nothing is left to do.
    pub closed_us: Option<i64>,
    /// What it was.
    pub verdict: Verdict,
}

/// What somebody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Says that personal data is concerned.
    Aware,
    /// Says that it goes on no more.
    Contain,
    /// Says that the authority was told, and why late if it was.
    Notify {
        /// Why not within 72 hours (Article 33(1)).
        delay_reason: Option<String>,
    },
    /// Says that the people concerned were told.
    NotifySubjects,
    /// Ends it.
    Close {
        /// What it was.
        verdict: Verdict,
        /// Why the authority was not told of a breach: no risk to anybody's rights is likely (Article 33(1)).
        not_notified: Option<String>,
    },
}

impl Step {
    /// The word in its history.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Aware => "aware",
            Self::Contain => "contained",
            Self::Notify { .. } => "notified",
            Self::NotifySubjects => "subjects_notified",
            Self::Close { .. } => "closed",
        }
    }
}

/// Why a step is not possible, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub message: &'static str,
    /// What to do instead.
    pub hint: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.hint)
    }
}

impl std::error::Error for Refused {}

fn refuse<T>(message: &'static str, hint: &'static str) -> Result<T, Refused> {
    Err(Refused { message, hint })
}

impl Progress {
    /// Just detected.
    pub fn detected(at_us: i64) -> Self {
        Self {
            detected_us: at_us,
            aware_us: None,
            contained_us: None,
            notified_us: None,
            subjects_notified_us: None,
            closed_us: None,
            verdict: Verdict::Open,
        }
    }

    /// The step was taken at `at_us`, and it is `now_us`. A notification need not wait for containment: what is known
    /// later follows in phases (Article 33(4)).
    ///
    /// # Errors
    /// The step cannot be the next one.
    pub fn after(mut self, step: &Step, at_us: i64, now_us: i64) -> Result<Self, Refused> {
        if self.closed_us.is_some() {
            return refuse("this incident is closed", "what happens from now on becomes another one");
        }
        let newest = [self.aware_us, self.contained_us, self.notified_us, self.subjects_notified_us];
        let earliest = match step {
            Step::Aware => self.detected_us,
            Step::Contain | Step::Notify { .. } | Step::NotifySubjects => self.aware_us.unwrap_or(self.detected_us),
            Step::Close { .. } => newest.into_iter().flatten().max().unwrap_or(self.detected_us),
        };
        if at_us > now_us || at_us < earliest {
            return refuse("a step is not in the future nor before the one it follows", "give another time with --at");
        }
        match step {
            Step::Aware if self.aware_us.is_some() => {
                return refuse("the clocks run already", "go on with `pgveil incidents contain`");
            }
            Step::Aware => self.aware_us = Some(at_us),
            Step::Contain | Step::Notify { .. } | Step::NotifySubjects if self.aware_us.is_none() => {
                return refuse("nobody is aware of it yet", "first `pgveil incidents aware`: it starts the 72 hours");
            }
            Step::Contain if self.contained_us.is_some() => {
                return refuse("it is contained already", "go on with `pgveil incidents notify`");
            }
            Step::Contain => self.contained_us = Some(at_us),
            Step::Notify { .. } if self.notified_us.is_some() => {
                return refuse(
                    "the authority was told already",
                    "go on with `pgveil incidents close --verdict incident`",
                );
            }
            Step::Notify { delay_reason } => {
                if self.authority_due_us().is_some_and(|due| at_us > due) && !said(delay_reason.as_ref()) {
                    return refuse(
                        "the 72 hours are over, and a late notification has reasons (Article 33(1))",
                        "say them with --delay-reason",
                    );
                }
                self.notified_us = Some(at_us);
            }
            Step::NotifySubjects if self.subjects_notified_us.is_some() => {
                return refuse("the people concerned were told already", "go on with `pgveil incidents close`");
            }
            Step::NotifySubjects => self.subjects_notified_us = Some(at_us),
            Step::Close { verdict, not_notified } => {
                self = self.closed(*verdict, said(not_notified.as_ref()), at_us)?
            }
        }
        Ok(self)
    }

    fn closed(mut self, verdict: Verdict, excused: bool, at_us: i64) -> Result<Self, Refused> {
        match verdict {
            Verdict::Open => {
                return refuse(
                    "closing demands a verdict",
                    "--verdict false_positive, --verdict benign or --verdict incident",
                );
            }
            Verdict::FalsePositive | Verdict::Benign if self.notified_us.is_some() => {
                return refuse(
                    "the authority was told of it",
                    "--verdict incident, and tell the authority what it was",
                );
            }
            Verdict::FalsePositive | Verdict::Benign => {}
            Verdict::Incident if self.aware_us.is_none() => {
                return refuse("nobody is aware of it yet", "first `pgveil incidents aware`: it starts the 72 hours");
            }
            Verdict::Incident if self.contained_us.is_none() => {
                return refuse("it is not contained", "first `pgveil incidents contain`");
            }
            Verdict::Incident if self.notified_us.is_none() && !excused => {
                return refuse(
                    "the authority was not told",
                    "first `pgveil incidents notify`, or say with --not-notified why no risk to anybody is likely",
                );
            }
            Verdict::Incident => {}
        }
        (self.closed_us, self.verdict) = (Some(at_us), verdict);
        Ok(self)
    }

    /// Until when the authority is to be told; `None` while nobody is aware, and when nothing is to be done any more.
    pub fn authority_due_us(&self) -> Option<i64> {
        let open = self.notified_us.is_none() && self.closed_us.is_none();
        self.aware_us.filter(|_| open).map(|aware| aware.saturating_add(AUTHORITY_US))
    }

    /// Until when the people concerned are to be told under HIPAA; `None` as above.
    pub fn hipaa_due_us(&self) -> Option<i64> {
        let open = self.subjects_notified_us.is_none() && self.closed_us.is_none();
        self.aware_us.filter(|_| open).map(|aware| aware.saturating_add(HIPAA_US))
    }

    /// The word for the stage it has reached.
    pub fn stage(&self) -> &'static str {
        match () {
            () if self.closed_us.is_some() => "closed",
            () if self.notified_us.is_some() => "notified",
            () if self.contained_us.is_some() => "contained",
            () if self.aware_us.is_some() => "aware",
            () => "detected",
        }
    }
}

fn said(reason: Option<&String>) -> bool {
    reason.is_some_and(|reason| !reason.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = HOUR_US;

    fn close(verdict: Verdict) -> Step {
        Step::Close { verdict, not_notified: None }
    }

    fn notify(reason: &str) -> Step {
        Step::Notify { delay_reason: Some(reason.to_owned()) }
    }

    fn walk(steps: &[(Step, i64)]) -> Result<Progress, Refused> {
        steps.iter().try_fold(Progress::detected(0), |at, (step, hour)| at.after(step, hour * H, hour * H))
    }

    #[test]
    fn the_way_from_detected_to_closed() {
        let mut progress = Progress::detected(0);
        let mut stages = vec![progress.stage()];
        for (hour, step) in [
            (1, Step::Aware),
            (2, Step::Contain),
            (73, notify("")),
            (74, Step::NotifySubjects),
            (75, close(Verdict::Incident)),
        ] {
            progress = progress.after(&step, hour * H, 80 * H).unwrap();
            stages.push(progress.stage());
        }
        assert_eq!(stages, ["detected", "aware", "contained", "notified", "notified", "closed"]);
        assert_eq!((progress.authority_due_us(), progress.hipaa_due_us()), (None, None));
    }

    #[test]
    fn the_wrong_order_is_refused_with_the_way_out() {
        let refused = |steps: &[(Step, i64)]| walk(steps).unwrap_err().to_string();
        assert!(refused(&[(Step::Contain, 1)]).contains("first `pgveil incidents aware`"));
        assert!(refused(&[(notify("x"), 1)]).contains("first `pgveil incidents aware`"));
        assert!(refused(&[(Step::Aware, 1), (Step::Aware, 2)]).contains("run already"));
        assert!(refused(&[(Step::Aware, 1), (close(Verdict::Incident), 2)]).contains("incidents contain"));
        assert!(refused(&[(close(Verdict::Open), 2)]).contains("--verdict"));
        let contained = [(Step::Aware, 1), (Step::Contain, 2)];
        let with = |step| [contained.as_slice(), &[(step, 3)]].concat();
        assert!(refused(&with(close(Verdict::Incident))).contains("--not-notified"));
        assert!(walk(&with(Step::Close { verdict: Verdict::Incident, not_notified: Some("sealed".into()) })).is_ok());
        assert!(refused(&[(close(Verdict::Benign), 1), (Step::Aware, 2)]).contains("closed"));
        let told = [(Step::Aware, 1), (notify(""), 2), (close(Verdict::Benign), 3)];
        assert!(refused(&told).contains("--verdict incident"));
    }

    #[test]
    fn a_late_notification_has_reasons() {
        let at = |hour, reason: &str| walk(&[(Step::Aware, 1), (notify(reason), hour)]);
        assert!(at(73, "").is_ok());
        assert!(at(74, " ").unwrap_err().hint.contains("--delay-reason"));
        assert!(at(74, "the lawyer was ill").is_ok());
    }

    #[test]
    fn clocks_start_with_awareness_and_stop_with_what_they_are_for() {
        let detected = Progress::detected(0);
        assert_eq!((detected.authority_due_us(), detected.hipaa_due_us()), (None, None));
        let aware = detected.after(&Step::Aware, H, H).unwrap();
        assert_eq!((aware.authority_due_us(), aware.hipaa_due_us()), (Some(73 * H), Some((60 * 24 + 1) * H)));
        let notified = aware.after(&notify(""), 2 * H, 2 * H).unwrap();
        assert_eq!((notified.authority_due_us(), notified.hipaa_due_us()), (None, Some((60 * 24 + 1) * H)));
        let told = notified.after(&Step::NotifySubjects, 2 * H, 2 * H).unwrap();
        assert_eq!(told.hipaa_due_us(), None);
    }

    #[test]
    fn time_goes_forward() {
        let aware = Progress::detected(5 * H).after(&Step::Aware, 6 * H, 9 * H).unwrap();
        for (at, now) in [(10, 9), (5, 9)] {
            assert!(aware.after(&Step::Contain, at * H, now * H).unwrap_err().hint.contains("--at"));
        }
        assert!(Verdict::ALL.iter().all(|verdict| Verdict::named(verdict.as_str()) == Some(*verdict)));
    }
}
