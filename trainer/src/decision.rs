//! What a message teaches by where it lies and how it came there, as a pure
//! function: [`decide`].
//!
//! Only what people did teaches. What the filter filed by itself does not,
//! until somebody moves it.
//!
//! Nothing is remembered here, and how a message came to where it is does not
//! count: the ledger says what was learned of it and whether the filter filed
//! it, so that a message found by a scan after a lost event is decided like one
//! that was seen to move. Two folders may hold
//! it at the same time, when a mail reader copies and then deletes; while the
//! other one holds it too, a message that merely lies there teaches nothing,
//! or the two would be learned and unlearned in turn.

use std::fmt;
use std::time::Duration;

use classifier::Label;
use mailbox::Flags;

/// What a folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The spam folder, in which both the filter and the user file.
    Spam,
    /// Where learned spam is moved to.
    Learned,
    /// Where the user puts ham that was taken for spam.
    WronglyCaught,
    /// Mail that the user keeps: INBOX and all folders of no other role.
    Counting,
    /// Mail that the user has put away. Ham if he had read it, but spam that
    /// comes here may just have been swept up.
    Archive,
    /// Trash, Sent, Drafts.
    Never,
}

/// What the ledger knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    No,
    /// The filter filed it as spam, and it taught nothing.
    Filed,
    /// It was learned.
    Learned(Label),
}

/// A message as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Where it is; `None` when it has gone.
    pub is: Option<Role>,
    /// How long it has been there.
    pub lain: Duration,
    /// Its flags.
    pub flags: Flags,
    /// What the ledger knows of it.
    pub known: Known,
    /// It came here so long after the ledger's first entry that the ledger
    /// would know it if it had been learned before.
    pub would_be_known: bool,
    /// It came here before all that the ledger still knows, which has
    /// forgotten others.
    pub may_be_forgotten: bool,
    /// It carries our mark, which nobody else can make, that the filter took
    /// it for spam.
    pub marked: bool,
    /// The same message, not flagged as deleted, also lies on the other side:
    /// for one in a spam or learned folder outside these, and the reverse.
    pub has_twin: bool,
    /// The model already takes it for ham and is sure.
    pub surely_ham: bool,
}

/// The user's or host's settings that decide.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long what the user filed stays before it is moved, so that a mail
    /// reader's Undo finds it.
    pub move_after: Duration,
    /// How long read mail must have been kept before it counts as ham.
    pub keep_before_ham: Duration,
    /// Whether today's share of ham learned because it was kept is used up.
    pub ham_cap_reached: bool,
}

/// What to do: first the lesson, then the move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the ledger and the model take in.
    pub lesson: Lesson,
    /// What becomes of the file.
    pub then: Then,
    /// Why.
    pub reason: Reason,
}

/// What the ledger and the model take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Nothing.
    Nothing,
    /// Note in the ledger that the filter filed it.
    NoteFiled,
    /// Learn it, after taking back what was learned of it with the other label.
    Learn(Label),
}

/// What becomes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It stays, until something happens to it.
    Stay,
    /// It goes to the learned folder.
    MoveToLearned,
    /// It goes to INBOX.
    MoveToInbox,
    /// Look again after so long.
    LookAgain(Duration),
}

/// Why it was decided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The user put it into the spam or learned folder.
    UserFiledSpam,
    /// The user put it into the folder for wrongly caught mail.
    UserFiledHam,
    /// The filter put it into the spam folder.
    FilterFiled,
    /// It left the spam or learned folder for one that counts.
    LeftSpam,
    /// The user read and kept it.
    ReadAndKept,
    /// It was learned with this label already.
    AlreadyLearned,
    /// It lies on the other side as well; which one stays will be seen.
    Twin,
    /// Deleted, expunged, or about to be.
    Deleted,
    /// It lies where mail never counts.
    NeverCounts,
    /// Spam that came to the archive.
    Archived,
    /// The user has not read it.
    Unread,
    /// Read, but not kept long enough.
    NotKeptLongEnough,
    /// The model is sure of it already.
    AlreadySure,
    /// Enough ham for today.
    HamCapReached,
    /// It lies where it was learned, too long ago for the ledger to know.
    LearnedLongAgo,
}

/// Decides what `seen` teaches and where it goes.
pub fn decide(seen: &Sighting, settings: &Settings) -> Decision {
    if seen.flags.contains(Flags::TRASHED) {
        return nothing(Reason::Deleted);
    }
    match seen.is {
        None => nothing(Reason::Deleted),
        Some(Role::Never) => nothing(Reason::NeverCounts),
        Some(Role::Spam) => in_spam(seen, settings),
        Some(Role::Learned) => in_learned(seen),
        Some(Role::WronglyCaught) => in_wrongly_caught(seen, settings),
        Some(Role::Counting) => in_counting(seen, settings),
        Some(Role::Archive) => in_archive(seen, settings),
    }
}

fn in_spam(seen: &Sighting, settings: &Settings) -> Decision {
    let lesson = match seen.known {
        Known::Learned(Label::Spam) => Lesson::Nothing,
        Known::Learned(Label::Ham) if seen.has_twin => return nothing(Reason::Twin),
        Known::Learned(Label::Ham) => Lesson::Learn(Label::Spam),
        Known::Filed => return nothing(Reason::FilterFiled),
        Known::No if seen.marked => {
            return Decision {
                lesson: Lesson::NoteFiled,
                ..nothing(Reason::FilterFiled)
            };
        }
        Known::No if seen.stays_forgotten() => return nothing(Reason::LearnedLongAgo),
        Known::No => Lesson::Learn(Label::Spam),
    };
    Decision {
        lesson,
        then: seen.move_when_due(settings, Then::MoveToLearned),
        reason: taught(lesson, Reason::UserFiledSpam),
    }
}

/// Learning comes before moving, so what merely lies here was learned, unless
/// the ledger would know it.
fn in_learned(seen: &Sighting) -> Decision {
    match seen.known {
        Known::Learned(Label::Spam) => nothing(Reason::AlreadyLearned),
        _ if seen.has_twin => nothing(Reason::Twin),
        Known::No if !seen.would_be_known => nothing(Reason::LearnedLongAgo),
        _ => learn(Label::Spam, Reason::UserFiledSpam),
    }
}

fn in_wrongly_caught(seen: &Sighting, settings: &Settings) -> Decision {
    let lesson = match seen.known {
        Known::Learned(Label::Ham) => Lesson::Nothing,
        Known::Learned(Label::Spam) if seen.has_twin => return nothing(Reason::Twin),
        Known::No if seen.stays_forgotten() => return nothing(Reason::LearnedLongAgo),
        _ => Lesson::Learn(Label::Ham),
    };
    Decision {
        lesson,
        then: seen.move_when_due(settings, Then::MoveToInbox),
        reason: taught(lesson, Reason::UserFiledHam),
    }
}

fn in_counting(seen: &Sighting, settings: &Settings) -> Decision {
    match seen.known {
        Known::Learned(Label::Ham) => nothing(Reason::AlreadyLearned),
        // A mail reader that copies deletes the original later, or never.
        Known::Learned(Label::Spam) | Known::Filed if seen.has_twin => nothing(Reason::Twin),
        Known::Learned(Label::Spam) | Known::Filed => learn(Label::Ham, Reason::LeftSpam),
        // The mark alone does not say that it was ever in the spam folder:
        // there are users whose spam is tagged and stays in INBOX.
        Known::No => kept(seen, settings),
    }
}

fn in_archive(seen: &Sighting, settings: &Settings) -> Decision {
    match seen.known {
        Known::Learned(Label::Ham) => nothing(Reason::AlreadyLearned),
        Known::Learned(Label::Spam) | Known::Filed => nothing(Reason::Archived),
        Known::No => kept(seen, settings),
    }
}

/// Mail of which nothing is known, in a folder that is a source of ham.
fn kept(seen: &Sighting, settings: &Settings) -> Decision {
    if !seen.flags.contains(Flags::SEEN) {
        return nothing(Reason::Unread);
    }
    if let Some(left) = settings
        .keep_before_ham
        .checked_sub(seen.lain)
        .filter(|left| !left.is_zero())
    {
        return Decision {
            then: Then::LookAgain(left),
            ..nothing(Reason::NotKeptLongEnough)
        };
    }
    if seen.has_twin {
        return nothing(Reason::Twin);
    }
    if seen.surely_ham {
        return nothing(Reason::AlreadySure);
    }
    if settings.ham_cap_reached {
        return nothing(Reason::HamCapReached);
    }
    learn(Label::Ham, Reason::ReadAndKept)
}

impl Sighting {
    /// Flagged mail is learned when it comes and stays, for longer than the
    /// ledger may know of it.
    fn stays_forgotten(&self) -> bool {
        self.may_be_forgotten && self.flags.contains(Flags::FLAGGED)
    }

    /// Mail flagged by the user is left in place.
    fn move_when_due(&self, settings: &Settings, to: Then) -> Then {
        if self.flags.contains(Flags::FLAGGED) {
            return Then::Stay;
        }
        match settings.move_after.checked_sub(self.lain) {
            Some(left) if !left.is_zero() => Then::LookAgain(left),
            _ => to,
        }
    }
}

fn taught(lesson: Lesson, reason: Reason) -> Reason {
    if lesson == Lesson::Nothing {
        Reason::AlreadyLearned
    } else {
        reason
    }
}

fn learn(label: Label, reason: Reason) -> Decision {
    Decision {
        lesson: Lesson::Learn(label),
        then: Then::Stay,
        reason,
    }
}

fn nothing(reason: Reason) -> Decision {
    Decision {
        lesson: Lesson::Nothing,
        then: Then::Stay,
        reason,
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserFiledSpam => "the user filed it as spam",
            Self::UserFiledHam => "the user filed it as wrongly caught",
            Self::FilterFiled => "the filter filed it",
            Self::LeftSpam => "it left the spam folder",
            Self::ReadAndKept => "the user read and kept it",
            Self::AlreadyLearned => "already learned",
            Self::Twin => "the same message also lies on the other side",
            Self::Deleted => "deleted",
            Self::NeverCounts => "it lies where mail never counts",
            Self::Archived => "spam that was archived",
            Self::Unread => "unread",
            Self::NotKeptLongEnough => "not kept long enough",
            Self::AlreadySure => "the model is sure already",
            Self::HamCapReached => "enough kept ham learned today",
            Self::LearnedLongAgo => "learned so long ago that the ledger no longer knows it",
        })
    }
}

#[cfg(test)]
mod tests;
