//! The host without a server: messages are handed over, the queue is worked
//! through, and what lies where is compared.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::attempt::attempt;
use super::verdict::Models;
use super::*;
use crate::accounts::{
    Accounts, Address, Domain, Homes, OverQuota, SpamPolicy, User, UserSettings,
};
use crate::journal::story;
use crate::queue::{Event as Noted, Record};
use crate::remote::{Parcel, Results, WayOut};
use crate::smtp::{Body, Notify, Protocol, Recipient};
use classifier::Label;
use classifier::mark::MarkKey;
use classifier::modern::{Act, Explanation, Keep, Lesson, Params, Reading, Verdict, learn};
use classifier::store::{Durability, MemoryModel, ModelStore};

const MAIL: &[u8] = b"Subject: hello\nX-Spam-Status: Yes\n\nGood morning\n";
const SPAM: &[u8] = b"Subject: Cheap watches\n\nBuy cheap watches now, click here\n";

/// Everybody has the same model, which counts how often it is asked.
struct OneModel {
    model: MemoryModel,
    n_asked: Arc<AtomicUsize>,
}

impl OneModel {
    fn trained(n_asked: &Arc<AtomicUsize>) -> Self {
        static ONCE: OnceLock<MemoryModel> = OnceLock::new();
        Self {
            model: ONCE.get_or_init(Self::train).clone(),
            n_asked: Arc::clone(n_asked),
        }
    }

    fn train() -> MemoryModel {
        let mut model = MemoryModel::default();
        for n in 0..20 {
            for (mail, label) in [(SPAM, Label::Spam), (MAIL, Label::Ham)] {
                let text = [mail, format!("{n}\n").as_bytes()].concat();
                let lesson = Lesson::new(&text, Act::Learn(label));
                learn(
                    &mut model,
                    &[lesson],
                    1_000,
                    &Keep::default(),
                    Durability::Synced,
                )
                .unwrap();
            }
        }
        model
    }
}

impl Models for OneModel {
    fn explain(
        &self,
        users: &[String],
        message: &[u8],
        n: usize,
    ) -> Vec<Result<(Verdict, Explanation), String>> {
        self.n_asked.fetch_add(users.len(), Ordering::Relaxed);
        let reading = Reading::new(message);
        let explained = self.model.explain(&reading, &Params::default(), n);
        vec![explained.map_err(|error| error.to_string()); users.len()]
    }

    fn mark_key(&self, user: &str) -> Result<Option<MarkKey>, String> {
        Ok(Some(MarkKey::of_user(&[1; 32], user)))
    }
}

/// Gives each domain its answer, and keeps what it was given.
#[derive(Clone, Default)]
struct Elsewhere(Arc<Mutex<Vec<Sent>>>);

/// Envelope and message.
type Sent = (String, Vec<u8>);

impl WayOut for Elsewhere {
    fn deliver<'a>(
        &'a self,
        parcel: Parcel<'a>,
    ) -> Pin<Box<dyn Future<Output = Results> + Send + 'a>> {
        let answer = |recipient: &&crate::queue::Recipient| {
            let address = recipient.address.to_string();
            let said = match address.split_once('@').unwrap().0 {
                "gone" => Err(Reply::new(550, (5, 1, 1), "no such user")),
                "busy" => Err(Reply::new(451, (4, 4, 1), "no answer")),
                _ => Ok("mx.example.net".to_owned()),
            };
            let envelope = format!("{} > {address}", parcel.entry.reverse_path);
            self.0
                .lock()
                .unwrap()
                .push((envelope, parcel.message.in_memory().unwrap().to_vec()));
            said
        };
        let results = parcel.recipients.iter().map(answer).collect();
        Box::pin(async move { results })
    }
}

struct Test {
    dir: tempfile::TempDir,
    accounts: Arc<Accounts>,
    elsewhere: Elsewhere,
    n_judged: Arc<AtomicUsize>,
    host: Postern,
}

impl Test {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mail")).unwrap();
        let homes = Homes::new(dir.path().join("mail"));
        let accounts = Arc::new(Accounts::open(&dir.path().join("accounts.db"), homes).unwrap());
        let mut settings = Settings::new("mx.example.org");
        change(&mut settings);
        let elsewhere = Elsewhere::default();
        let n_judged = Arc::default();
        let models = Box::new(OneModel::trained(&n_judged));
        let way_out: Box<dyn WayOut> = Box::new(elsewhere.clone());
        let host = Postern::open(
            dir.path(),
            Arc::clone(&accounts),
            models,
            Some(way_out),
            None,
            settings,
        );
        let test = Self {
            host: host.unwrap(),
            dir,
            accounts,
            elsewhere,
            n_judged,
        };
        test.domain(|_| {});
        test.user("anna", |_| {});
        test.user("bob", |_| {});
        test
    }

    fn user(&self, name: &str, change: impl FnOnce(&mut UserSettings)) {
        let mut settings = UserSettings::default();
        change(&mut settings);
        let address = Address::new(name, "example.org");
        let user = User { address, settings };
        self.accounts
            .change(|change| change.put_user(&user))
            .unwrap();
    }

    fn alias(&self, name: &str, targets: &[&str]) {
        let targets: Vec<String> = targets.iter().map(|to| (*to).to_owned()).collect();
        let alias = Address::new(name, "example.org");
        self.accounts
            .change(|change| change.put_alias(&alias, &targets))
            .unwrap();
    }

    fn domain(&self, change: impl FnOnce(&mut Domain)) {
        let mut domain = Domain {
            name: "example.org".into(),
            programs: true,
            ..Domain::default()
        };
        change(&mut domain);
        self.accounts
            .change(|change| change.put_domain(&domain))
            .unwrap();
    }

    fn home(&self, user: &str) -> PathBuf {
        self.dir.path().join("mail/example.org").join(user)
    }

    fn qmail(&self, user: &str, file: &str, text: &str) {
        self.accounts
            .homes()
            .mailbox(&Address::new(user, "example.org"))
            .unwrap();
        fs::write(self.home(user).join(file), text).unwrap();
    }

    fn message(&self, text: &[u8]) -> Message {
        let mut message = Message::new(self.dir.path());
        message.write(text).unwrap();
        message
    }

    /// Hands a message over, and works through the queue as far as it is due.
    async fn send(&self, from: &str, to: &[&str], text: &[u8]) -> String {
        self.send_as(envelope(from, to), text).await
    }

    /// From somebody who may write to anybody.
    async fn send_out(&self, from: &str, to: &str) -> String {
        let mut out = envelope(from, &[to]);
        out.client.may_relay = true;
        self.send_as(out, MAIL).await
    }

    async fn send_as(&self, envelope: Envelope, text: &[u8]) -> String {
        let answer = self.host.commit(envelope, self.message(text)).await;
        self.host.run_due().await;
        match answer {
            Answer::All(reply) => reply.to_string().split(" ok ").next().unwrap().to_owned(),
            Answer::Each(replies) => replies
                .iter()
                .map(|reply| reply.code.to_string())
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    /// The messages of a user's folder, "" or ".Junk".
    fn mail(&self, user: &str, folder: &str) -> Vec<String> {
        read_all(&self.home(user).join("Maildir").join(folder).join("new"))
    }

    /// Notes an event of a queued message, as `postern queue` does.
    fn note(&self, id: &str, event: Noted) {
        let mut taken = self.host.queue().take(id).unwrap().unwrap();
        taken.note(&[Record { at: 1, event }]).unwrap();
    }

    fn n_queued(&self) -> usize {
        self.host.queue().ids().unwrap().len()
    }
}

fn read_all(folder: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

fn client(may_relay: bool) -> Client {
    Client {
        peer: Some("192.0.2.1:4711".parse().unwrap()),
        helo: Some("mail.example.net".into()),
        protocol: Protocol::Esmtp,
        tls: None,
        account: None,
        may_relay,
    }
}

fn envelope(from: &str, to: &[&str]) -> Envelope {
    let recipient = |to: &&str| Recipient {
        forward_path: ForwardPath::parse(to.as_bytes()).unwrap(),
        notify: None,
        orcpt: None,
    };
    Envelope {
        reverse_path: ReversePath::parse(from.as_bytes()).unwrap(),
        size: 0,
        recipients: to.iter().map(recipient).collect(),
        body: Body::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        gate: Vec::new(),
        client: client(false),
    }
}

#[tokio::test]
async fn who_may_be_written_to() {
    let test = Test::new();
    for (name, messages, over_quota) in [
        ("full", Some(0), OverQuota::Defer),
        ("fuller", Some(0), OverQuota::Refuse),
        ("small", None, OverQuota::Defer),
        ("smaller", None, OverQuota::Refuse),
    ] {
        let bytes = Some(100);
        test.user(name, |user| {
            user.quota = mailbox::Quota { bytes, messages };
            user.over_quota = over_quota;
        });
    }
    test.qmail("fuller", ".qmail-list", "&anna@example.org\n");
    test.alias("both", &["full@example.org", "anna@example.org"]);
    test.alias("round", &["round@example.org"]);
    let of_size = async |to: &str, may_relay, size| {
        let to = ForwardPath::parse(to.as_bytes()).unwrap();
        let (client, from) = (client(may_relay), ReversePath::Null);
        let asked = test.host.check_recipient(&client, &from, &to, size);
        match asked.await {
            Decision::Accept => "ok".to_owned(),
            Decision::Refuse(refusal) => refusal.reply.to_string(),
        }
    };
    for (to, size, expected) in [
        ("small@example.org", 100, "ok"),
        ("small@example.org", 101, "452 4.2.2 the mailbox is full"),
        ("smaller@example.org", 101, "552 5.2.2 the mailbox is full"),
        ("anna@example.org", 101, "ok"),
    ] {
        assert_eq!(of_size(to, false, size).await, expected, "{to}");
    }
    for (to, may_relay, expected) in [
        ("anna@example.org", false, "ok"),
        ("ANNA+x@example.org", false, "ok"),
        ("Postmaster", false, "ok"),
        ("full@example.org", false, "452 4.2.2 the mailbox is full"),
        ("fuller@example.org", true, "552 5.2.2 the mailbox is full"),
        // What goes elsewhere needs no room here.
        ("fuller-list@example.org", false, "ok"),
        ("both@example.org", false, "ok"),
        ("postmaster@example.org", false, "ok"),
        ("nobody@example.org", true, "550 5.1.1 no such user here"),
        ("anna-x@example.org", false, "550 5.1.1 no such user here"),
        (
            "round@example.org",
            false,
            "550 5.4.6 this address leads back to itself",
        ),
        ("x@example.net", false, "550 5.7.1 relaying denied"),
        ("x@[192.0.2.9]", false, "550 5.7.1 relaying denied"),
        ("x@example.net", true, "ok"),
    ] {
        assert_eq!(of_size(to, may_relay, 0).await, expected, "{to}");
    }
}

#[tokio::test]
async fn mail_for_few_mailboxes_never_sees_the_queue() {
    let test = Test::new();
    let to = ["anna@example.org", "bob+x@example.org", "Anna@example.org"];
    assert_eq!(test.send("x@example.net", &to, MAIL).await, "250 2.0.0");
    assert_eq!(test.n_queued(), 0);
    let [mail] = &test.mail("anna", "")[..] else {
        panic!("not once");
    };
    let lines: Vec<&str> = mail.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "Return-Path: <x@example.net>",
            "Delivered-To: anna@example.org"
        ]
    );
    assert!(
        lines[2].starts_with("Received: from mail.example.net ([192.0.2.1])"),
        "{mail}"
    );
    // The foreign verdict is gone, and ours is there.
    assert!(
        mail.ends_with("Subject: hello\nX-Spam-Status: No, hits=")
            || !mail.contains("Status: Yes\n")
    );
    assert!(
        mail.contains("\nX-Spam-Status: No, hits=0.") && mail.ends_with("\n\nGood morning\n"),
        "{mail}"
    );
    assert!(test.mail("bob", "")[0].contains("Delivered-To: bob+x@example.org\n"));
}

#[tokio::test]
async fn spam_goes_where_each_user_wants_it() {
    let test = Test::new();
    test.user("tagger", |user| user.spam = SpamPolicy::Tag);
    test.user("refuser", |user| user.spam = SpamPolicy::Refuse);
    test.user("off", |user| user.filter = false);
    let all = ["anna", "tagger", "refuser", "off"].map(|name| format!("{name}@example.org"));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(test.send("x@example.net", &all, SPAM).await, "250 2.0.0");
    for (user, folder) in [
        ("anna", ".Junk"),
        ("tagger", ""),
        ("refuser", ".Junk"),
        ("off", ""),
    ] {
        let mail = test.mail(user, folder);
        assert_eq!(mail.len(), 1, "{user}");
        assert_eq!(
            mail[0].contains("\nX-Spam-Flag: YES\n"),
            user != "off",
            "{user}"
        );
        // What bmfd is to take for filed by the filter.
        let address = format!("{user}@example.org");
        let mark = MarkKey::of_user(&[1; 32], &address).field_of(SPAM);
        assert_eq!(mail[0].contains(&mark), folder == ".Junk", "{user}");
    }
    let refused = test
        .send("x@example.net", &["refuser@example.org"], SPAM)
        .await;
    assert_eq!(
        refused,
        "554 5.7.1 this message looks like spam to its recipients"
    );
    assert_eq!(test.mail("refuser", ".Junk").len(), 1);
    let story = story(&test.dir.path().join("journal"), "anna@example.org", 1).unwrap();
    let judged = story.iter().any(|line| {
        matches!(&line.event, Event::Judged { verdict, evidence, .. } if verdict == "spam" && !evidence.is_empty())
    });
    assert!(judged, "{story:?}");
}

#[tokio::test]
async fn by_lmtp_spam_is_refused_for_those_who_want_that() {
    let test = Test::new();
    test.user("refuser", |user| user.spam = SpamPolicy::Refuse);
    test.alias("both", &["refuser@example.org", "bob@example.org"]);
    let all = ["refuser", "anna", "both"].map(|name| format!("{name}@example.org"));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut lmtp = envelope("x@example.net", &all);
    lmtp.client.protocol = Protocol::Lmtp;
    assert_eq!(test.send_as(lmtp.clone(), SPAM).await, "554 250 250");
    // It reaches the refuser by an alias that others want to have it by.
    for user in ["refuser", "anna", "bob"] {
        assert_eq!(test.mail(user, ".Junk").len(), 1, "{user}");
    }
    lmtp.recipients.truncate(2);
    assert_eq!(test.send_as(lmtp.clone(), SPAM).await, "554 250");
    assert_eq!(test.mail("refuser", ".Junk").len(), 1);
    // So it is when the rest is queued.
    test.qmail("anna", ".qmail", "&x@example.net\n");
    assert_eq!(test.send_as(lmtp, SPAM).await, "554 250");
    assert_eq!(test.elsewhere.0.lock().unwrap().len(), 1);
    assert_eq!(test.mail("refuser", ".Junk").len(), 1);
    let path = test.dir.path().join("journal");
    let story = story(&path, "refuser@example.org", 1).unwrap();
    let refused = story.iter().filter_map(|line| match &line.event {
        Event::Refused { to, .. } => Some(to.join(" ")),
        _ => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), ["refuser@example.org"]);
}

#[tokio::test]
async fn each_user_is_asked_once_for_a_verdict() {
    let test = Test::new();
    let asked = || test.n_judged.swap(0, Ordering::Relaxed);
    let both = ["anna@example.org", "bob@example.org"];
    test.send("x@example.net", &both, MAIL).await;
    assert_eq!(asked(), 2, "straight to the mailboxes");
    test.qmail("anna", ".qmail", "./Maildir/\n|true\n");
    test.send("x@example.net", &both, MAIL).await;
    assert_eq!(asked(), 2, "by the queue");
    assert_eq!(test.mail("anna", "").len(), 2);
    let path = test.dir.path().join("journal");
    let story = story(&path, "anna@example.org", 1).unwrap();
    let judged = |line: &&Line| matches!(&line.event, Event::Judged { .. });
    assert_eq!(story.iter().filter(judged).count(), 2, "{story:#?}");
}

#[tokio::test]
async fn what_somebody_else_has_locked_is_tried_when_it_is_free() {
    let test = Test::new();
    test.qmail("anna", ".qmail", "./Maildir/\n|true\n");
    let message = test.message(MAIL);
    let to = envelope("x@example.net", &["anna@example.org"]);
    test.host.commit(to, message).await;
    let [id] = &test.host.queue().ids().unwrap()[..] else {
        panic!("not one");
    };
    let locked = test.host.queue().take(id).unwrap().unwrap();
    let free = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(test.mail("anna", "").len(), 0);
        drop(locked);
    };
    tokio::join!(test.host.run_due(), free);
    assert_eq!((test.mail("anna", "").len(), test.n_queued()), (1, 0));
}

#[tokio::test]
async fn instructions_are_followed_in_order() {
    let test = Test::new();
    test.qmail(
        "anna",
        ".qmail",
        "./Maildir/\n|cat >seen; echo $EXT2 >>seen\n./mbox\n&x@example.net\nbob\n",
    );
    assert_eq!(
        test.send("y@example.net", &["anna@example.org"], MAIL)
            .await,
        "250 2.0.0"
    );
    assert_eq!(test.n_queued(), 0);
    assert_eq!(test.mail("anna", "").len(), 1);
    let seen = fs::read_to_string(test.home("anna").join("seen")).unwrap();
    assert!(
        seen.starts_with("Received: ") && seen.contains("X-Spam-Status: No, "),
        "{seen}"
    );
    let mbox = fs::read_to_string(test.home("anna").join("mbox")).unwrap();
    assert!(mbox.starts_with("From y@example.net "), "{mbox}");
    let sent = test.elsewhere.0.lock().unwrap().clone();
    assert_sent_on(&sent[0].0);
    assert!(
        sent[0]
            .1
            .starts_with(b"Delivered-To: anna@example.org\nReceived: ")
    );
    let to_bob = &test.mail("bob", "")[0];
    assert!(
        to_bob.contains("Delivered-To: bob@example.org\nDelivered-To: anna@example.org\n"),
        "{to_bob}"
    );
    let story = story(&test.dir.path().join("journal"), "anna@example.org", 1).unwrap();
    assert!(
        story
            .iter()
            .any(|line| matches!(&line.event, Event::Begot { what, .. } if what == "forward"))
    );
    assert!(
        story.iter().any(
            |line| matches!(&line.event, Event::Delivered { to, .. } if to == "x@example.net")
        )
    );
}

#[tokio::test]
async fn a_list_by_extension_has_an_owner_and_return_paths_for_each() {
    let test = Test::new();
    test.qmail("anna", ".qmail-list", "&a@example.net\n&b@example.net\n");
    test.qmail("anna", ".qmail-list-owner", "./Maildir/\n");
    let senders = |test: &Test| -> Vec<String> {
        let sent = test.elsewhere.0.lock().unwrap();
        sent.iter().map(|(envelope, _)| envelope.clone()).collect()
    };
    test.send("x@example.net", &["anna-list@example.org"], MAIL)
        .await;
    let owner = "anna-list-owner@example.org";
    let expected = [
        format!("{owner} > a@example.net"),
        format!("{owner} > b@example.net"),
    ];
    assert_eq!(senders(&test), expected);
    test.elsewhere.0.lock().unwrap().clear();
    test.qmail("anna", ".qmail-list-owner-default", "./Maildir/\n");
    test.send("x@example.net", &["anna-list@example.org"], MAIL)
        .await;
    assert_eq!(
        senders(&test),
        [
            "anna-list-owner-a=example.net@example.org > a@example.net",
            "anna-list-owner-b=example.net@example.org > b@example.net",
        ]
    );
    // A report to one of them arrives.
    test.send("", &["anna-list-owner-a=example.net@example.org"], MAIL)
        .await;
    assert_eq!(test.mail("anna", "").len(), 1);
}

#[tokio::test]
async fn loops_end_in_a_report() {
    let test = Test::new();
    test.qmail("anna", ".qmail", "&bob@example.org\n");
    test.qmail("bob", ".qmail", "&anna@example.org\n");
    test.user("carol", |_| {});
    assert_eq!(
        test.send("carol@example.org", &["anna@example.org"], MAIL)
            .await,
        "250 2.0.0"
    );
    assert_eq!(test.n_queued(), 0);
    let report = &test.mail("carol", "")[0];
    assert!(
        report.starts_with("Return-Path: <>\n") && report.contains("Status: 5.4.6\n"),
        "{report}"
    );
}

/// From y@example.net to x@example.net, by our name.
fn assert_sent_on(path: &str) {
    let is_ours = path.starts_with("SRS0=");
    assert!(
        is_ours && path.ends_with("=example.net=y@example.org > x@example.net"),
        "{path}"
    );
}

/// Forwards to aliases were refused, and reports to senders that are aliases.
#[tokio::test]
async fn forwards_and_reports_find_aliases() {
    let test = Test::new();
    test.alias("info", &["bob@example.org", "x@example.net"]);
    test.alias("", &["bob@example.org"]);
    test.qmail(
        "anna",
        ".qmail",
        "&info@example.org\n&bob@example.org\n&any@example.org\n",
    );
    test.send("y@example.net", &["anna@example.org"], MAIL)
        .await;
    assert_eq!((test.mail("bob", "").len(), test.n_queued()), (1, 0));
    let sent = test.elsewhere.0.lock().unwrap().clone();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_sent_on(&sent[0].0);
    for sender in ["info@example.org", "nobody@example.org"] {
        test.send_out(sender, "gone@example.net").await;
        let mail = test.mail("bob", "");
        let told = |mail: &&String| mail.contains(&format!("\nTo: {sender}\n"));
        let [report] = &mail.iter().filter(told).collect::<Vec<_>>()[..] else {
            panic!("{mail:?}");
        };
        assert!(
            report.contains("Delivered-To: bob@example.org\n"),
            "{report}"
        );
    }
    // One that leads nowhere costs the others nothing, and is reported.
    test.alias("", &[]);
    test.qmail("anna", ".qmail", "&dead@example.org\n&bob@example.org\n");
    test.send("bob@example.org", &["anna@example.org"], MAIL)
        .await;
    let mail = test.mail("bob", "");
    assert_eq!((mail.len(), test.n_queued()), (5, 0));
    let report = mail
        .iter()
        .find(|mail| mail.contains("<dead@example.org>:"));
    assert!(report.unwrap().contains("Status: 5.1.1\n"), "{report:?}");
}

#[tokio::test]
async fn mail_that_waits_for_a_user_who_is_an_alias_by_now_goes_on() {
    let test = Test::new();
    test.qmail("anna", ".qmail", "|exit 111\n");
    test.send("x@example.net", &["anna@example.org"], MAIL)
        .await;
    let [id] = &test.host.queue().ids().unwrap()[..] else {
        panic!("not one");
    };
    let address = Address::new("anna", "example.org");
    test.accounts
        .change(|change| change.remove_user(&address))
        .unwrap();
    test.alias("anna", &["bob@example.org"]);
    test.note(id, Noted::Retry);
    assert_eq!(attempt(&test.host.inner, id).await.unwrap().due, None);
    test.host.run_due().await;
    assert_eq!((test.mail("bob", "").len(), test.n_queued()), (1, 0));
}

#[tokio::test]
async fn a_report_that_fails_reaches_the_postmaster_and_ends_there() {
    let test = Test::new();
    // Whom the domain names.
    test.domain(|domain| domain.postmaster = Some("bob@example.org".into()));
    test.send_out("", "gone@example.net").await;
    assert_eq!(test.mail("bob", "").len(), 1);
    assert!(!test.home("postmaster").exists());
    // One who cannot be told, also when he passes it on.
    for postmaster in ["gone@example.net", "anna@example.org"] {
        test.domain(|domain| domain.postmaster = Some(postmaster.into()));
        test.qmail("anna", ".qmail", "&gone@example.net\n");
        test.elsewhere.0.lock().unwrap().clear();
        test.send_out("", "gone@example.net").await;
        let sent = test.elsewhere.0.lock().unwrap().clone();
        assert_eq!(
            sent.len(),
            2,
            "the report, and the report of that: {sent:?}"
        );
        assert!(sent.iter().all(|(to, _)| to == " > gone@example.net"));
        assert_eq!((test.mail("bob", "").len(), test.n_queued()), (1, 0));
    }
}

#[tokio::test]
async fn failures_are_reported_once_and_reports_of_reports_to_the_postmaster() {
    let test = Test::new();
    let mut out = envelope("anna@example.org", &["gone@example.net", "x@example.net"]);
    out.client.may_relay = true;
    assert_eq!(test.send_as(out, MAIL).await, "250 2.0.0");
    assert_eq!(test.n_queued(), 0);
    let report = &test.mail("anna", "")[0];
    assert!(
        report.contains("<gone@example.net>:\n550 5.1.1 no such user\n"),
        "{report}"
    );
    assert!(
        report.contains("Subject: hello\nX-Spam-Status: Yes\n\nGood morning\n"),
        "as it was"
    );
    // Nobody to tell: the postmaster, and should that fail, nobody.
    let mut null = envelope("", &["gone@example.net"]);
    null.client.may_relay = true;
    test.send_as(null, MAIL).await;
    assert_eq!(test.mail("postmaster", "").len(), 1);
    assert_eq!(test.n_queued(), 0);
    // Who wants to hear of nothing hears nothing.
    let mut never = envelope("anna@example.org", &["gone@example.net"]);
    never.recipients[0].notify = Some(Notify::default());
    never.client.may_relay = true;
    test.send_as(never, MAIL).await;
    assert_eq!(test.mail("anna", "").len(), 1);
}

#[tokio::test]
async fn what_is_deferred_waits_is_told_of_and_given_up_when_it_is_too_old() {
    let test = Test::with(|settings| settings.schedule.lifetime = Duration::from_secs(100_000));
    let mut out = envelope("anna@example.org", &["busy@example.net", "x@example.net"]);
    out.client.may_relay = true;
    test.send_as(out, MAIL).await;
    let [id] = &test.host.queue().ids().unwrap()[..] else {
        panic!("not one");
    };
    let found = test.host.queue().look(id).unwrap().unwrap();
    let arrived = found.entry.arrived;
    assert_eq!(found.entry.next_attempt(), Some(arrived + 400));
    let path = test.host.queue().disk().path().join(id);
    let n_queued = || test.n_queued() - usize::from(path.exists());
    // What comes of the next attempt, had it arrived so many seconds ago.
    let attempt_after = async |seconds: u64| {
        let text = fs::read_to_string(&path).unwrap();
        let at = text.find("arrived ").unwrap();
        let end = at + text[at..].find('\n').unwrap();
        let text = [
            &text[..at],
            &format!("arrived {}", arrived - seconds),
            &text[end..],
        ];
        fs::write(&path, text.concat()).unwrap();
        test.note(id, Noted::Retry);
        test.elsewhere.0.lock().unwrap().clear();
        let due = attempt(&test.host.inner, id).await.unwrap().due;
        // Only the one that failed is tried again.
        assert_eq!(test.elsewhere.0.lock().unwrap().len(), 1);
        due
    };
    assert!(attempt_after(4 * 3_600 - 60).await.is_some());
    assert_eq!(n_queued(), 0, "not yet");
    // RFC 3461 and the issue: told once, after four hours.
    for seconds in [4 * 3_600 + 60, 8 * 3_600] {
        assert!(attempt_after(seconds).await.is_some());
        assert_eq!(n_queued(), usize::from(seconds < 5 * 3_600));
        test.host.run_due().await;
    }
    let warning = &test.mail("anna", "")[0];
    for part in [
        "Subject: delayed mail, still being tried\n",
        "<busy@example.net>:\n451 4.4.1 no answer\n",
        "Action: delayed\nStatus: 4.4.1\n",
    ] {
        assert!(warning.contains(part), "{part} is not in {warning}");
    }
    assert_eq!(attempt_after(200_000).await, None);
    assert_eq!(n_queued(), 1, "the report");
    test.host.run_due().await;
    let mail = test.mail("anna", "");
    assert_eq!(mail.len(), 2);
    let given_up = "451 4.4.1 no answer (tried until it was too old)";
    assert!(mail.iter().any(|mail| mail.contains(given_up)), "{mail:?}");
}

#[tokio::test]
async fn a_full_mailbox_says_so_and_others_get_theirs() {
    let test = Test::new();
    let quota = mailbox::Quota {
        bytes: Some(100),
        messages: None,
    };
    test.user("full", |user| user.quota = quota);
    assert_eq!(
        test.send("x@example.net", &["full@example.org"], MAIL)
            .await,
        "452 4.2.2 the mailbox is full"
    );
    assert_eq!(test.n_queued(), 0);
    let both = ["full@example.org", "anna@example.org"];
    assert_eq!(test.send("x@example.net", &both, MAIL).await, "250 2.0.0");
    assert_eq!((test.mail("anna", "").len(), test.n_queued()), (1, 1));
    let mut lmtp = envelope("x@example.net", &both);
    lmtp.client.protocol = Protocol::Lmtp;
    assert_eq!(test.send_as(lmtp, MAIL).await, "452 250");
    assert_eq!((test.mail("anna", "").len(), test.n_queued()), (2, 1));
}

#[tokio::test]
async fn an_unwritable_queue_refuses_and_keeps_nothing() {
    let test = Test::new();
    test.qmail("anna", ".qmail", "&x@example.net\n");
    fs::remove_dir_all(test.dir.path().join("queue")).unwrap();
    let said = test
        .send("x@example.net", &["anna@example.org"], MAIL)
        .await;
    assert!(said.starts_with("451 4.3.0"), "{said}");
    assert_eq!(read_all(&test.dir.path().join("queue")).len(), 0);
}

#[tokio::test]
async fn programs_need_leave_and_their_failures_count() {
    let test = Test::new();
    test.qmail("anna", ".qmail", "|echo no thanks; exit 100\n");
    test.send("bob@example.org", &["anna@example.org"], MAIL)
        .await;
    assert!(test.mail("bob", "")[0].contains("code 100: no thanks\n"));
    test.qmail("anna", ".qmail", "|exit 99\n./Maildir/\n");
    test.send("bob@example.org", &["anna@example.org"], MAIL)
        .await;
    assert_eq!((test.mail("anna", "").len(), test.n_queued()), (0, 0));
    test.domain(|domain| domain.programs = false);
    test.send("bob@example.org", &["anna@example.org"], MAIL)
        .await;
    assert_eq!(test.n_queued(), 1);
    let id = &test.host.queue().ids().unwrap()[0];
    let text = fs::read_to_string(test.host.queue().disk().path().join(id)).unwrap();
    assert!(
        text.contains("451 4.7.0 this user's instructions name a program"),
        "{text}"
    );
}

#[tokio::test]
async fn a_delivery_that_fills_a_folder_makes_room_in_it() {
    let models = tempfile::tempdir().unwrap();
    let path = models.path().display();
    let text = format!("[rotation.INBOX]\nmax_messages = 2\n[database]\npath = '{path}'");
    let config = trainer::config::Config::parse(&text, Path::new("bmfd.toml")).unwrap();
    let test = Test::with(|settings| settings.learning = Some(Arc::new(config)));
    for n in 0..5 {
        let text = [MAIL, format!("{n}\n").as_bytes()].concat();
        let answer = test.send("x@example.net", &["anna@example.org"], &text);
        assert_eq!(answer.await, "250 2.0.0");
        assert!(test.mail("anna", "").len() <= 2, "however fast it comes");
    }
    let left = test.mail("anna", "");
    // Names of one second have no order.
    for last in ["\n3\n", "\n4\n"] {
        assert!(left.iter().any(|mail| mail.ends_with(last)), "{left:#?}");
    }
}

#[tokio::test]
async fn an_account_sends_so_much_an_hour() {
    let test = Test::with(|settings| {
        (settings.messages_per_hour, settings.recipients_per_hour) = (2, 3);
    });
    let client = |name: &str| {
        let mut client = envelope("", &["bob@example.org"]).client;
        client.account = Some(format!("{name}@example.org"));
        client
    };
    let said = |decision: Decision| match decision {
        Decision::Accept => "ok".to_owned(),
        Decision::Refuse(refusal) => refusal.reply.to_string(),
    };
    let from = |name: &str| ReversePath::parse(format!("{name}@example.org").as_bytes()).unwrap();
    let to = ForwardPath::parse(b"bob@example.org").unwrap();
    let (anna, bob) = (client("anna"), client("bob"));
    for (client, name, expected) in [
        (&anna, "anna", "ok"),
        // What is not allowed anyway is not counted.
        (
            &anna,
            "bob",
            "550 5.7.1 bob@example.org is not yours to send as",
        ),
        (&anna, "anna", "ok"),
        (
            &anna,
            "anna",
            "450 4.7.1 anna@example.org may send 2 messages an hour, try again later",
        ),
        (&bob, "bob", "ok"),
    ] {
        assert_eq!(
            said(test.host.check_sender(client, &from(name)).await),
            expected
        );
    }
    let path = from("anna");
    let mut unknown = anna.clone();
    unknown.account = None;
    for (client, expected) in [
        (&anna, "ok"),
        (&anna, "ok"),
        (&anna, "ok"),
        (
            &anna,
            "450 4.7.1 anna@example.org may write to 3 recipients an hour, try again later",
        ),
        (&bob, "ok"),
        (&unknown, "ok"),
    ] {
        assert_eq!(
            said(test.host.check_recipient(client, &path, &to, 0).await),
            expected
        );
    }
}
