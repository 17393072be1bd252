//! One test for each sentence of what a move means.

use super::*;
use Known::{Filed, Learned, No};
use Label::{Ham, Spam};
use Lesson::{Learn, NoteFiled, Nothing};
use Role::{Archive, Counting, Never, WronglyCaught};
use Then::{LookAgain, MoveToInbox, MoveToLearned, Stay};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

const SETTINGS: Settings = Settings {
    move_after: Duration::from_secs(5 * 60),
    keep_before_ham: Duration::from_secs(24 * 3600),
    ham_cap_reached: false,
};

/// A message that has just come, of which nothing is known.
fn seen(is: Role) -> Sighting {
    Sighting {
        is: Some(is),
        lain: Duration::ZERO,
        flags: Flags::default(),
        known: No,
        would_be_known: false,
        may_be_forgotten: false,
        marked: false,
        has_twin: false,
        surely_ham: false,
    }
}

fn check(seen: &Sighting, lesson: Lesson, then: Then, reason: Reason) {
    let expected = Decision {
        lesson,
        then,
        reason,
    };
    assert_eq!(decide(seen, &SETTINGS), expected, "{seen:?}");
}

#[test]
fn what_a_user_puts_into_the_spam_folder_is_learned_at_once_and_moved_later() {
    let five = LookAgain(5 * MINUTE);
    check(&seen(Role::Spam), Learn(Spam), five, Reason::UserFiledSpam);
    let learned = Sighting {
        known: Learned(Spam),
        ..seen(Role::Spam)
    };
    check(
        &Sighting {
            lain: 2 * MINUTE,
            ..learned
        },
        Nothing,
        LookAgain(3 * MINUTE),
        Reason::AlreadyLearned,
    );
    check(
        &Sighting {
            lain: 5 * MINUTE,
            ..learned
        },
        Nothing,
        MoveToLearned,
        Reason::AlreadyLearned,
    );
    // Found late: both at once.
    check(
        &Sighting {
            known: No,
            lain: HOUR,
            ..learned
        },
        Learn(Spam),
        MoveToLearned,
        Reason::UserFiledSpam,
    );
}

#[test]
fn learned_ham_put_into_the_spam_folder_is_relearned() {
    let ham = Sighting {
        known: Learned(Ham),
        ..seen(Role::Spam)
    };
    let five = LookAgain(5 * MINUTE);
    check(&ham, Learn(Spam), five, Reason::UserFiledSpam);
    // Copied: when the original is deleted.
    let copied = Sighting {
        has_twin: true,
        ..ham
    };
    check(&copied, Nothing, Stay, Reason::Twin);
}

#[test]
fn what_the_filter_filed_teaches_nothing_and_stays() {
    let marked = Sighting {
        marked: true,
        ..seen(Role::Spam)
    };
    check(&marked, NoteFiled, Stay, Reason::FilterFiled);
    // Without its mark the ledger knows it, however long it has lain.
    let known = Sighting {
        known: Filed,
        marked: false,
        lain: 99 * HOUR,
        ..marked
    };
    check(&known, Nothing, Stay, Reason::FilterFiled);
}

#[test]
fn what_leaves_the_spam_or_learned_folder_is_learned_as_ham() {
    for known in [Filed, Learned(Spam)] {
        let moved = Sighting {
            known,
            ..seen(Counting)
        };
        check(&moved, Learn(Ham), Stay, Reason::LeftSpam);
    }
    let again = Sighting {
        known: Learned(Ham),
        ..seen(Counting)
    };
    check(&again, Nothing, Stay, Reason::AlreadyLearned);
}

#[test]
fn a_copy_has_left_when_the_original_is_deleted() {
    for known in [Filed, Learned(Spam)] {
        let copy = Sighting {
            known,
            has_twin: true,
            ..seen(Counting)
        };
        check(&copy, Nothing, Stay, Reason::Twin);
        let alone = Sighting {
            has_twin: false,
            ..copy
        };
        check(&alone, Learn(Ham), Stay, Reason::LeftSpam);
    }
}

#[test]
fn two_copies_are_not_learned_in_turn() {
    // Copied from INBOX to the spam folder and learned there.
    check(
        &Sighting {
            known: Learned(Spam),
            has_twin: true,
            ..seen(Counting)
        },
        Nothing,
        Stay,
        Reason::Twin,
    );
    // Put among the wrongly caught, learned there, its original still in place.
    for is in [Role::Spam, Role::Learned] {
        check(
            &Sighting {
                known: Learned(Ham),
                has_twin: true,
                ..seen(is)
            },
            Nothing,
            Stay,
            Reason::Twin,
        );
    }
    let caught = Sighting {
        known: Learned(Spam),
        has_twin: true,
        ..seen(WronglyCaught)
    };
    check(&caught, Nothing, Stay, Reason::Twin);
}

#[test]
fn to_the_trash_deleting_and_expunging_are_neutral() {
    for known in [No, Filed, Learned(Spam), Learned(Ham)] {
        let moved = Sighting {
            known,
            ..seen(Never)
        };
        check(&moved, Nothing, Stay, Reason::NeverCounts);
        let expunged = Sighting { is: None, ..moved };
        check(&expunged, Nothing, Stay, Reason::Deleted);
        for is in [Role::Spam, Role::Learned, WronglyCaught, Counting, Archive] {
            let deleted = Sighting {
                known,
                flags: Flags::TRASHED,
                ..seen(is)
            };
            check(&deleted, Nothing, Stay, Reason::Deleted);
        }
    }
}

#[test]
fn flagged_mail_is_left_in_place() {
    let flagged = Sighting {
        flags: Flags::FLAGGED,
        lain: HOUR,
        ..seen(Role::Spam)
    };
    check(&flagged, Learn(Spam), Stay, Reason::UserFiledSpam);
    check(
        &Sighting {
            known: Learned(Spam),
            ..flagged
        },
        Nothing,
        Stay,
        Reason::AlreadyLearned,
    );
    check(
        &Sighting {
            is: Some(WronglyCaught),
            ..flagged
        },
        Learn(Ham),
        Stay,
        Reason::UserFiledHam,
    );
    for is in [Role::Spam, WronglyCaught] {
        let forgotten = Sighting {
            is: Some(is),
            may_be_forgotten: true,
            ..flagged
        };
        check(&forgotten, Nothing, Stay, Reason::LearnedLongAgo);
        let flags = Flags::default();
        let plain = decide(&Sighting { flags, ..forgotten }, &SETTINGS);
        assert!(matches!(plain.lesson, Learn(_)), "{plain:?}");
    }
}

#[test]
fn wrongly_caught_mail_is_learned_as_ham_and_goes_to_the_inbox() {
    for known in [No, Filed, Learned(Spam)] {
        let put = Sighting {
            known,
            has_twin: known != Learned(Spam),
            ..seen(WronglyCaught)
        };
        check(
            &put,
            Learn(Ham),
            LookAgain(5 * MINUTE),
            Reason::UserFiledHam,
        );
    }
    let learned = Sighting {
        known: Learned(Ham),
        lain: HOUR,
        ..seen(WronglyCaught)
    };
    check(&learned, Nothing, MoveToInbox, Reason::AlreadyLearned);
}

#[test]
fn what_is_put_among_the_learned_is_learned() {
    let put = Sighting {
        would_be_known: true,
        ..seen(Role::Learned)
    };
    for known in [No, Filed, Learned(Ham)] {
        let put = Sighting { known, ..put };
        check(&put, Learn(Spam), Stay, Reason::UserFiledSpam);
        // Copied: when the original is deleted.
        let copied = Sighting {
            has_twin: true,
            ..put
        };
        check(&copied, Nothing, Stay, Reason::Twin);
    }
    let learned = Sighting {
        known: Learned(Spam),
        ..put
    };
    check(&learned, Nothing, Stay, Reason::AlreadyLearned);
    // Its record in the ledger has expired.
    let expired = Sighting {
        would_be_known: false,
        ..put
    };
    check(&expired, Nothing, Stay, Reason::LearnedLongAgo);
}

#[test]
fn read_and_kept_mail_is_ham_and_never_unread_mail() {
    for is in [Counting, Archive] {
        let kept = Sighting {
            flags: Flags::SEEN,
            lain: 24 * HOUR,
            ..seen(is)
        };
        check(&kept, Learn(Ham), Stay, Reason::ReadAndKept);
        check(
            &Sighting {
                flags: Flags::FLAGGED,
                ..kept
            },
            Nothing,
            Stay,
            Reason::Unread,
        );
        check(
            &Sighting {
                lain: 23 * HOUR,
                ..kept
            },
            Nothing,
            LookAgain(HOUR),
            Reason::NotKeptLongEnough,
        );
        check(
            &Sighting {
                surely_ham: true,
                ..kept
            },
            Nothing,
            Stay,
            Reason::AlreadySure,
        );
        check(
            &Sighting {
                known: Learned(Ham),
                ..kept
            },
            Nothing,
            Stay,
            Reason::AlreadyLearned,
        );
        check(
            &Sighting {
                has_twin: true,
                ..kept
            },
            Nothing,
            Stay,
            Reason::Twin,
        );
        let capped = Settings {
            ham_cap_reached: true,
            ..SETTINGS
        };
        assert_eq!(decide(&kept, &capped), nothing(Reason::HamCapReached));
    }
}

#[test]
fn spam_that_is_tagged_and_stays_in_the_inbox_is_not_ham_at_once() {
    let tagged = Sighting {
        marked: true,
        ..seen(Counting)
    };
    check(&tagged, Nothing, Stay, Reason::Unread);
}

#[test]
fn the_archive_is_no_destination_that_counts() {
    for known in [Filed, Learned(Spam)] {
        let kept = Sighting {
            known,
            flags: Flags::SEEN,
            lain: 99 * HOUR,
            ..seen(Archive)
        };
        check(&kept, Nothing, Stay, Reason::Archived);
    }
}

#[test]
fn undo_within_the_delay_takes_it_back() {
    let undone = Sighting {
        known: Learned(Spam),
        ..seen(Counting)
    };
    check(&undone, Learn(Ham), Stay, Reason::LeftSpam);
}
