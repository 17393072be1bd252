//! What a pass makes of mail that the ledger does not know, or no more.

use classifier::modern::{self, Keep, Lesson};
use classifier::store::Durability;

use super::*;

/// As far as the ledger can tell it from what it has forgotten.
#[test]
fn what_is_put_among_the_learned_is_learned() {
    let mut anna = User::new("");
    anna.mailbox.create_folder(&name("Junk.Learned")).unwrap();
    anna.put(".Junk.Learned/cur/1.h:2,S", 1);
    assert_eq!(anna.pass(Duration::ZERO), [""; 0], "no ledger yet");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ago = now - 26 * HOUR;
    let lesson = (mail(9), Act::Learn(Label::Ham));
    anna.taught.learn(&[lesson], ago.as_secs()).unwrap();
    assert_eq!(
        anna.pass(Duration::ZERO),
        ["Junk/Learned 1.h:2,S Spam Done"]
    );
    assert_eq!(anna.pass(Duration::ZERO), [""; 0]);
    anna.put(".Junk.Learned/cur/2.h:2,S", 2);
    let Taught::Memory(model) = &mut anna.taught else {
        panic!("not in memory")
    };
    let note = Lesson::new(&mail(7), Act::NoteFiled);
    let nothing = Keep { bytes: 0 };
    // The ledger counts in seconds.
    std::thread::sleep(SECOND);
    let later = crate::turn::seconds(SystemTime::now());
    modern::learn(model, &[note], later, &nothing, Durability::Relaxed).unwrap();
    let lesson = (mail(8), Act::Learn(Label::Ham));
    anna.taught.learn(&[lesson], later).unwrap();
    assert_eq!(anna.pass(HOUR), [""; 0], "the ledger begins after it came");
}

#[test]
fn flagged_spam_that_stays_for_long_counts_once() {
    let mut user = User::new("");
    user.put(".Junk/cur/1.h:2,FS", 1);
    assert_eq!(user.pass(SECOND), ["Junk 1.h:2,FS Spam Done"]);
    for days in [61, 400] {
        user.put(&format!(".Junk/cur/{days}.h:2,S"), days);
        let learned = format!("Junk {days}.h:2,S Spam, move Done");
        assert_eq!(user.pass(DAY * days), [learned]);
    }
}

#[test]
fn flagged_spam_that_the_ledger_forgets_is_not_learned_again() {
    let mut anna = User::new("");
    anna.put(".Junk/cur/1.h:2,FS", 1);
    assert_eq!(anna.pass(SECOND), ["Junk 1.h:2,FS Spam Done"]);
    let Taught::Memory(model) = &mut anna.taught else {
        panic!("not in memory")
    };
    // The ledger counts in seconds.
    std::thread::sleep(SECOND);
    let note = Lesson::new(&mail(2), Act::NoteFiled);
    let now = crate::turn::seconds(SystemTime::now());
    let nothing = Keep { bytes: 0 };
    modern::learn(model, &[note], now, &nothing, Durability::Relaxed).unwrap();
    assert_eq!(anna.learned(1), None);
    assert_eq!(anna.pass(HOUR), [""; 0]);
    // What comes later is learned, flagged or not.
    anna.put(".Junk/cur/4.h:2,FS", 4);
    assert_eq!(anna.pass(HOUR), ["Junk 4.h:2,FS Spam Done"]);
}
