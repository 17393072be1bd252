//! `bmf` and `bmfd` together: what is printed, what is learned, and what
//! happens when one of them is not there.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::bmfd::Bmfd;
use tests::overlaid;
use tests::programs::built;
use tests::run::{Input, Outcome, run, scratch};

/// A host with a daemon, and a user with a home folder.
struct Host {
    bmfd: Bmfd,
    dir: TempDir,
}

impl Host {
    fn new(config: &str) -> Self {
        let dir = scratch();
        let bmfd = Bmfd::new(dir.path(), "mail/*/Maildir", config);
        fs::create_dir(dir.path().join("mail")).unwrap();
        Self { bmfd, dir }
    }

    fn started(config: &str) -> Self {
        let mut host = Self::new(config);
        host.bmfd.start();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    /// In the home folder `home`, asking the daemon.
    fn bmf(&self, home: &str, args: &str, input: &[u8]) -> Outcome {
        let mut command = bmf_in(&self.home(home), args);
        command.env("BMF_SOCKET", self.bmfd.socket());
        run(&mut command, Input::Bytes(input))
    }

    /// Without the daemon.
    fn alone(&self, home: &str, args: &str, input: &[u8]) -> Outcome {
        let mut command = bmf_in(&self.home(home), args);
        command.env("BMF_SOCKET", "");
        run(&mut command, Input::Bytes(input))
    }

    fn status(&self) -> String {
        self.bmfd.run("status --json").stdout_text()
    }
}

fn bmf_in(home: &Path, args: &str) -> Command {
    let mut command = Command::new(built("bmf"));
    command.args(args.split_whitespace()).env("HOME", home);
    command
}

fn mail(n: usize, words: &str) -> Vec<u8> {
    format!("From: a{n}@example.org\nSubject: {words} {n}\n\n{words} number {n} of many\n")
        .into_bytes()
}

fn mbox(words: &str, n: usize) -> Vec<u8> {
    let one = |n| {
        [
            b"From a@b Thu Jan  1 00:00:00 1970\n",
            &*mail(n, words),
            b"\n",
        ]
        .concat()
    };
    (0..n).flat_map(one).collect()
}

/// The same to the byte through the socket and without a daemon.
#[test]
fn prints_what_bmf_alone_prints() {
    for engine in ["classic", "modern"] {
        let host = Host::started("");
        let mut n_marks = 0;
        let steps: &[(&str, Vec<u8>)] = &[
            ("-s", mbox("cheap watches", 12)),
            ("-n", mbox("lunch tomorrow", 12)),
            ("-t", mail(50, "cheap watches")),
            ("-p", mail(51, "cheap watches")),
            ("-p", mail(52, "lunch tomorrow")),
            ("-p -t", mbox("lunch", 3)),
            ("-S", mail(52, "lunch tomorrow")),
            ("-N -p", mail(51, "cheap watches")),
            ("--json -t", mail(53, "watches for lunch")),
            ("--json", mail(54, "watches for lunch")),
            ("--explain -t", mbox("cheap lunch", 2)),
            ("", mail(55, "lunch")),
            ("-t", Vec::new()),
            ("-p", b"\n".to_vec()),
            ("-t -v", mail(1, "\u{e4}\u{f6}")),
        ];
        for (n, (args, input)) in steps.iter().enumerate() {
            let args = format!("--engine {engine} {args}");
            let mut through = host.bmf("with", &args, input);
            // Which `bmf` alone does not write.
            let text = String::from_utf8(through.stdout).unwrap();
            let (mark, text): (Vec<_>, Vec<_>) = text
                .split_inclusive('\n')
                .partition(|line| line.starts_with("X-Spam-Mark: 1 "));
            n_marks += mark.len();
            through.stdout = text.concat().into_bytes();
            let alone = host.alone("without", &args, input);
            assert_eq!(through, alone, "step {n}: {args}");
        }
        assert_eq!(n_marks, 1, "{engine}");
    }
}

#[test]
fn a_database_is_taken_over_once() {
    for engine in ["classic", "modern"] {
        let host = Host::started("");
        host.alone(
            "home",
            &format!("--engine {engine} -s"),
            &mbox("cheap watches", 12),
        );
        host.alone("home", "-n", &mbox("lunch tomorrow", 12));
        let before = host.alone("home", "-t", &mail(40, "cheap watches"));
        let taken = host.bmf("home", "-t", &mail(40, "cheap watches"));
        assert_eq!(taken.stdout, before.stdout, "{engine}");
        assert!(taken.stderr.contains("handed"), "{}", taken.stderr);
        let again = host.bmf("home", "-t", &mail(40, "cheap watches"));
        assert_eq!((again.stdout, again.stderr.as_str()), (before.stdout, ""));
        let status = host.status();
        assert!(status.contains("\"ham\":12,\"spam\":12"), "{status}");
        assert!(
            status.contains(&format!("\"engine\":\"{engine}\"")),
            "{status}"
        );
        // What was left is read and not written.
        let dir = host.home("home").join(".bmf");
        let refused = host.alone("home", &format!("-s -d {}", dir.display()), &mail(1, "x"));
        assert_eq!(refused.code(), 2);
        assert!(refused.stderr.contains("handed over"), "{}", refused.stderr);
    }
}

/// Nothing of it can be had, and nobody is told that it was.
#[test]
fn a_damaged_database_is_not_taken_over_and_an_empty_one_is() {
    let mut host = Host::started("");
    let message = mail(40, "cheap watches");
    for name in ["none", "empty", "damaged", "lists"] {
        fs::create_dir_all(host.home(name).join(".bmf")).unwrap();
    }
    let homes = host.dir.path().to_owned();
    let in_bmf = |name: &str, file: &str| homes.join(name).join(".bmf").join(file);
    fs::write(in_bmf("empty", "bmf.mdb"), "").unwrap();
    fs::write(in_bmf("lists", "goodlist.db"), "no list").unwrap();
    host.alone("damaged", "-s", &mbox("cheap watches", 12));
    let file = in_bmf("damaged", "bmf.mdb");
    let mut bytes = fs::read(&file).unwrap();
    // The pages after those that say where the others are.
    bytes[8192..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(&file, &bytes).unwrap();

    for name in ["none", "empty"] {
        let outcome = host.bmf(name, "-t", &message);
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (1, ""), "{name}");
    }
    for (name, file) in [("damaged", "bmf.mdb"), ("lists", "goodlist.db")] {
        let file = in_bmf(name, file);
        for _ in 0..2 {
            let outcome = host.bmf(name, "-p", &message);
            assert_eq!(outcome.code(), 2, "{name}");
            assert_eq!(outcome.stdout, message, "mail goes on, unjudged");
            let said: Vec<_> = outcome.stderr.lines().collect();
            let damaged = format!("bmf: {} is damaged: ", file.display());
            assert_eq!(
                said[0],
                "bmf: nothing is handed over to bmfd; \
                 move away what is damaged to begin anew there"
            );
            assert!(said[1].starts_with(&damaged) && said.len() == 2, "{said:?}");
        }
        fs::rename(&file, file.with_extension("away")).unwrap();
        let outcome = host.bmf(name, "-s", &message);
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{name}");
    }
    // All of them are one user, the one who runs this.
    assert!(
        host.status().contains("\"ham\":0,\"spam\":1"),
        "{}",
        host.status()
    );

    // What was handed over is needed only while the daemon does not answer.
    host.bmfd.kill();
    fs::write(in_bmf("empty", "bmf.mdb"), "no database").unwrap();
    let outcome = host.bmf("empty", "-s", &message);
    assert_eq!(outcome.code(), 2);
    let said = "bmfd has all of what is damaged here: remove it, and lessons wait for bmfd";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    fs::remove_file(in_bmf("empty", "bmf.mdb")).unwrap();
    assert_eq!(host.bmf("empty", "-s", &message).code(), 0);
    assert_eq!(fs::read_dir(in_bmf("empty", "spool")).unwrap().count(), 1);
}

#[test]
fn what_was_learned_without_the_daemon_waits_and_counts_once() {
    for engine in ["classic", "modern"] {
        let mut host = Host::started("");
        host.bmf(
            "home",
            &format!("--engine {engine} -s"),
            &mbox("cheap watches", 12),
        );
        host.bmf("home", "-n", &mbox("lunch tomorrow", 12));
        host.bmfd.kill();
        let learned = host.bmf("home", "-s", &mail(70, "new pills"));
        assert_eq!(learned.code(), 0, "{}", learned.stderr);
        assert!(
            learned.stderr.contains("does not answer"),
            "{}",
            learned.stderr
        );
        let passed = host.bmf("home", "-p -n", &mail(71, "lunch"));
        assert!(passed.stdout_text().contains("X-Spam-Status: No"));
        let spool = host.home("home").join(".bmf/spool");
        let kept: Vec<_> = fs::read_dir(&spool)
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        assert_eq!(kept.len(), 2);
        let copies: Vec<_> = kept.iter().map(|file| fs::read(file).unwrap()).collect();
        host.bmfd.start();
        host.bmf("home", "-t", &mail(1, "x"));
        assert_eq!(fs::read_dir(&spool).unwrap().count(), 0);
        let once = host.status();
        assert!(once.contains("\"ham\":13,\"spam\":13"), "{once}");
        // As after a kill between the daemon's reply and the removal.
        for (path, bytes) in kept.iter().zip(copies) {
            fs::write(path, bytes).unwrap();
        }
        host.bmf("home", "-t", &mail(1, "x"));
        assert!(
            host.status().contains("\"ham\":13,\"spam\":13"),
            "{}",
            host.status()
        );
    }
}

/// Whoever files mail by that mark is known to be the filter, with or without
/// the daemon.
#[test]
fn mail_filed_without_the_daemon_carries_the_same_mark() {
    for engine in ["classic", "modern"] {
        let mut host = Host::new("");
        let train = format!("--engine {engine} -s");
        host.alone("home", &train, &mbox("cheap watches", 12));
        host.alone("home", "-n", &mbox("lunch tomorrow", 12));
        host.bmfd.start();
        let spam = mail(40, "cheap watches");
        let with = host.bmf("home", "-p -t", &spam);
        assert!(with.stdout_text().contains("\nX-Spam-Mark: 1 "), "{engine}");
        host.bmfd.kill();
        let without = host.bmf("home", "-p -t", &spam);
        assert_eq!(without.stdout_text(), with.stdout_text(), "{engine}");
        let ham = host.bmf("home", "-p -t", &mail(41, "lunch tomorrow"));
        assert!(!ham.stdout_text().contains("X-Spam-Mark"), "{engine}");
    }
}

/// Each step of handing over, with the process killed after it: the steps are
/// its system calls that change a file or send something.
#[test]
fn killed_while_handing_over() {
    let steps = [
        "rename",
        "fsync",
        "mkdir",
        "connect",
        "sendto,write",
        "recvfrom,read",
    ];
    for engine in ["classic", "modern"] {
        for step in steps {
            for nth in 1..=4 {
                let host = Host::started("");
                host.alone(
                    "home",
                    &format!("--engine {engine} -s"),
                    &mbox("cheap watches", 3),
                );
                let mut strace = tests::programs::peer("strace");
                strace
                    .args(["-qq", "-o", "/dev/null", "-e"])
                    .arg(format!("inject={step}:signal=KILL:when={nth}"))
                    .arg(built("bmf"))
                    .arg("-s")
                    .env("HOME", host.home("home"))
                    .env("BMF_SOCKET", host.bmfd.socket());
                run(&mut strace, Input::Bytes(&mail(9, "other pills")));
                host.bmf("home", "-s", &mail(9, "other pills"));
                let status = host.status();
                assert!(
                    status.contains("\"ham\":0,\"spam\":4"),
                    "{engine} {step} {nth}: {status}"
                );
            }
        }
    }
}

#[test]
fn bmf_finds_the_socket_in_its_home_and_where_the_system_has_it() {
    let host = Host::started("");
    let dir = host.home("home").join(".bmf");
    fs::create_dir_all(&dir).unwrap();
    symlink(host.bmfd.socket(), dir.join("socket")).unwrap();
    let mut bmf = bmf_in(&host.home("home"), "-s");
    let taught = run(
        bmf.env_remove("BMF_SOCKET"),
        Input::Bytes(&mail(1, "cheap watches")),
    );
    assert_eq!((taught.code(), taught.stderr.as_str()), (0, ""));
    assert!(host.status().contains("\"ham\":0,\"spam\":1"));

    if !overlaid::is_possible() {
        tests::skip("only root can lay something over /run");
        return;
    }
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/bmfd && ln -s $DIR/socket /run/bmfd && \
         printf 'Subject: x\\n\\nother words\\n' | HOME=$DIR/nobody {} -s",
        built("bmf").display()
    );
    let output = overlaid::run(host.dir.path(), &script);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert!(host.status().contains("\"ham\":0,\"spam\":2"));
}

/// The system says who it is; users of every Debian stand for those of a host.
#[test]
fn who_asks_decides_whose_model_it_is() {
    const DAEMON: u32 = 1;
    const MAIL: u32 = 8;
    let host = Host::started("service.mail_user = 'mail'\n");
    let programs = host.path("programs");
    let homes = [("daemon", DAEMON), ("mail", MAIL)];
    for (name, uid) in homes {
        fs::create_dir_all(host.home(name)).unwrap();
        if chown(host.home(name), Some(uid), Some(uid)).is_err() {
            tests::skip("only root can ask as somebody else");
            return;
        }
    }
    fs::set_permissions(host.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&programs).unwrap();
    for name in ["bmf", "bmfd"] {
        // By another process, or one that is forked meanwhile keeps it open.
        let copied = Command::new("cp").arg(built(name)).arg(&programs).status();
        assert!(copied.unwrap().success());
    }
    let message = mail(1, "cheap watches");
    let ask = |uid: u32, program: &str, args: &str| {
        let (home, _) = homes.iter().find(|(_, other)| *other == uid).unwrap();
        let mut command = Command::new(programs.join(program));
        command
            .args(args.split_whitespace())
            .env("HOME", host.home(home))
            .env("BMF_SOCKET", host.bmfd.socket())
            .uid(uid)
            .gid(uid);
        run(&mut command, Input::Bytes(&message))
    };
    assert_eq!(ask(DAEMON, "bmf", "-s").code(), 0);
    assert_eq!(ask(DAEMON, "bmf", "--user daemon -s").code(), 0);
    for args in ["--user anna -s", "--user anna -t", "--user mail -t"] {
        let refused = ask(DAEMON, "bmf", args);
        assert_eq!(refused.code(), 2, "{args}");
        let said = "daemon may not use the model of ";
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(ask(MAIL, "bmf", "--user anna -s").code(), 0);
    assert_eq!(ask(MAIL, "bmf", "--user daemon -t").code(), 1);
    let config = host.bmfd.config();
    for uid in [DAEMON, MAIL] {
        let args = format!("-c {} user list", config.display());
        let refused = ask(uid, "bmfd", &args);
        assert_eq!(refused.code(), 2);
        let said = "only root and bmfd's own user may";
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(host.bmfd.run("user list").stdout_text(), "anna\ndaemon\n");
    let status = host.status();
    assert_eq!(
        status.matches("\"ham\":0,\"spam\":1").count(),
        2,
        "{status}"
    );
}

/// A user who begins with a base knows at once what others taught, and
/// changes it for nobody.
#[test]
fn a_user_is_started_by_folders_and_others_by_a_base() {
    let mut host = Host::new("");
    for (folder, words) in [("", "lunch tomorrow"), (".Junk", "cheap watches")] {
        let maildir = host.path("mail/anna/Maildir").join(folder);
        for half in ["cur", "new", "tmp"] {
            fs::create_dir_all(maildir.join(half)).unwrap();
        }
        for n in 0..60 {
            let path = maildir.join(format!("cur/{n}.h:2,"));
            fs::write(path, mail(n, words)).unwrap();
        }
    }
    host.bmfd.start();
    let learned = host.bmfd.run("learn anna --ham INBOX --spam Junk");
    assert_eq!(
        (learned.code(), learned.stdout_text().as_str()),
        (0, "anna: 60 ham, 60 spam learned\n"),
        "{}",
        learned.stderr
    );
    let (spam, ham) = (mail(90, "cheap watches"), mail(91, "lunch tomorrow"));
    let judged = |host: &Host, user: &str| {
        [&spam, &ham].map(|mail| host.bmf("home", &format!("--user {user} -t"), mail).code())
    };
    assert_eq!(judged(&host, "anna"), [0, 1]);
    assert_eq!(judged(&host, "bert"), [1, 1], "nothing is known yet");

    let base = host.path("base");
    assert_eq!(
        host.bmfd
            .run(&format!("base {} bert", base.display()))
            .code(),
        2
    );
    let made = host.bmfd.run(&format!("base {} anna", base.display()));
    assert_eq!(made.code(), 0, "{}", made.stderr);
    let before = fs::read(&base).unwrap();
    host.bmfd.kill();
    let config = fs::read_to_string(host.bmfd.config()).unwrap();
    let config = format!("database.base = '{}'\n{config}", base.display());
    fs::write(host.bmfd.config(), config).unwrap();
    host.bmfd.start();
    assert_eq!(judged(&host, "bert"), [0, 1]);
    // For one of them it is the other way round.
    for n in 0..20 {
        host.bmf("home", "--user carl -n", &mail(n, "cheap watches"));
    }
    assert_eq!(judged(&host, "carl")[0], 1);
    assert_eq!(judged(&host, "bert"), [0, 1]);
    assert!(fs::read(&base).unwrap() == before);
}

#[test]
fn broken_clients_are_turned_away_and_others_served() {
    let mut host = Host::new(
        "service.max_connections_per_user = 8\nservice.patience_seconds = 5\nservice.max_message_bytes = 100000\n",
    );
    host.bmfd.start_with(|command| {
        command.arg("--verbose");
    });
    let connect = || UnixStream::connect(host.bmfd.socket()).unwrap();
    let said = |mut stream: UnixStream, bytes: &[u8]| {
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    };
    assert!(said(connect(), b"GET / HTTP/1.0\r\n\r\n").contains("no frame"));
    assert!(said(connect(), b"bmf\x02\x01\0\0\0\0\0\0\0").contains("version 2"));
    assert!(said(connect(), b"bmf\x01\x01\0\0\0\xff\xff\xff\xff").contains("no more than"));
    // One that says nothing and one that stops half-way are hung up on.
    let silent = connect();
    let mut slow = connect();
    slow.write_all(b"bmf\x01\x01\0\0\0\0\0\x01\0half").unwrap();
    let answered = host.bmf("home", "-t", &mail(1, "x"));
    assert_eq!((answered.code(), answered.stderr.as_str()), (1, ""));
    assert_eq!(said(silent, b""), "");
    assert_eq!(said(slow, b""), "");
    // Those beyond the limit get nothing; this one would be told what is wrong.
    let many: Vec<_> = (0..8).map(|_| connect()).collect();
    assert_eq!(said(connect(), b"GET / HTTP/1.0\r\n\r\n"), "");
    assert!(host.bmfd.log().contains("too many connections"));
    drop(many);
    host.bmfd.wait("served again", || {
        host.bmf("home", "-t", &mail(1, "x")).stderr.is_empty()
    });
    let long = host.bmf("home", "-p", &mail(1, &"word ".repeat(100_000)));
    assert!(long.stderr.contains("no more than"), "{}", long.stderr);
    assert!(long.stdout.len() > 100_000, "a filter never eats mail");
    assert_eq!(host.bmf("home", "-t", &mail(1, "x")).code(), 1);
}

#[test]
fn users_are_listed_moved_and_backed_up_while_it_runs() {
    let mut host = Host::started("");
    host.bmf("home", "-s", &mbox("cheap watches", 3));
    let me = host
        .bmfd
        .run("user list")
        .stdout_text()
        .trim_end()
        .to_owned();
    assert_eq!(host.bmf("home", "--user other -s", &mail(1, "x")).code(), 0);
    assert_eq!(host.bmfd.run("user list").stdout_text().lines().count(), 2);
    let backup = host.path("backup");
    assert_eq!(
        host.bmfd
            .run(&format!("backup {}", backup.display()))
            .code(),
        0
    );
    let exported = host.bmfd.run(&format!("user export {me}"));
    assert_eq!(host.bmfd.run(&format!("user remove {me}")).code(), 0);
    assert_eq!(host.bmfd.run("user rename other third").code(), 0);
    assert_eq!(host.bmfd.run("user list").stdout_text(), "third\n");
    let mut import = host.bmfd.command(["user", "import", "fourth"]);
    assert_eq!(run(&mut import, Input::Bytes(&exported.stdout)).code(), 0);
    assert!(
        host.status()
            .contains("\"user\":\"fourth\",\"engine\":\"modern\",\"ham\":0,\"spam\":3")
    );
    let human = host.bmfd.run("status fourth").stdout_text();
    assert!(
        human.starts_with("fourth: modern, 0 ham, 3 spam; last learned "),
        "{human}"
    );
    // The same without a daemon, and from the backup put in its place.
    host.bmfd.kill();
    assert_eq!(host.bmfd.run("user list").stdout_text(), "fourth\nthird\n");
    fs::remove_dir_all(host.path("lib")).unwrap();
    fs::rename(&backup, host.path("lib")).unwrap();
    host.bmfd.start();
    assert!(host.status().contains(&format!("\"user\":\"{me}\"")));
}
