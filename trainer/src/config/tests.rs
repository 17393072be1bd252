use super::*;

fn parsed(text: &str) -> Config {
    Config::parse(text, Path::new("bmfd.toml")).unwrap()
}

fn folder(name: &str) -> FolderName {
    FolderName::parse(name, Layout::MaildirPlusPlus).unwrap()
}

#[test]
fn the_example_file_says_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bmfd.toml");
    let example = fs::read_to_string(&path).unwrap();
    assert_eq!(parsed(&example), parsed(""));

    // Every line that is only a comment with a key in it may be used as it is.
    let uncommented: String = example
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n")
        .collect();
    let all = parsed(&uncommented);
    assert_ne!(all, parsed(""));
    assert_eq!(all.named.len(), 1);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    fn check(text: &str, expected: &str) {
        let error = Config::parse(text, Path::new("x.toml")).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(expected), "{text}\ngave {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    check(
        "[folders]\nspma = []",
        "x.toml:2: unknown field `spma`, expected one of `spam`",
    );
    check("\n[folder]", "x.toml:2: unknown field `folder`");
    check(
        "\nversion = 2\n[folder]",
        "x.toml:2: it has format version 2, and this program reads versions up to 1; go back",
    );
    check("version = '1'", "x.toml:1: a version is a number from 1");
    check("[folders]\nspam = 'Junk'", "x.toml:2: invalid type: string");
    check(
        "[folders]\n\nspam = ['Junk', '..']",
        "x.toml:3: \"..\" cannot be a folder",
    );
    check(
        "[folders]\nspam = ['INBOX']",
        "x.toml:2: INBOX always counts",
    );
    check(
        "[folders]\nspam = ['Junk']\nnever = ['Junk']",
        "x.toml:3: \"Junk\" is named for two",
    );
    check(
        "[folders]\nspam = ['Junk.Learned']",
        "x.toml:2: \"Junk.Learned\" is named for two",
    );
    check(
        "[mailboxes]\npatterns = ['/home']",
        "x.toml:2: \"/home\" needs a *",
    );
    check(
        "[mailboxes]\nlayout = 'mbox'",
        "x.toml:2: unknown variant `mbox`",
    );
    check(
        "[rotation]\n\"a..b\" = { max_bytes = 1 }",
        "x.toml:2: \"a..b\" cannot be a folder",
    );
    check(
        "[rotation.Junk]\nmax_bytes = 0",
        "x.toml:2: invalid value: integer `0`",
    );
    check(
        "[rotation.Junk]\nmax_bytes = -1",
        "x.toml:2: invalid value: integer `-1`",
    );
    check(
        "[rotation.Junk]\nmax_megabytes = 5",
        "x.toml:2: unknown field `max_megabytes`",
    );
    check(
        "[users.anna]\nmailbox = 'Maildir'",
        "x.toml:2: a path begins with /",
    );
    check(
        "[users.anna]\nmailbox = '/a/../b'",
        "x.toml:2: a path begins with",
    );
    check(
        "[users.anna.folders]\nspam = ['X', 'X']",
        "x.toml:2: \"X\" is named for two purposes (for user anna)",
    );
    check(
        "database.path = 'lib'",
        "x.toml:1: \"lib\" does not begin with /",
    );
    check(
        "[metrics]\nlisten = '0.0.0.0:9000'",
        "x.toml:2: 0.0.0.0:9000 is no loopback address",
    );
    check(
        "[spamd]\nlisten = 'localhost'",
        "x.toml:2: \"localhost\" is no address",
    );
    check("[service]\nsocket = 'x'", "x.toml:2: a path begins with /");
    check(
        "\n[users.'../x']",
        "x.toml:2: \"../x\" cannot be the name of a user",
    );
    check("[folders\n", "x.toml:1: ");
}

#[test]
fn what_is_said_for_a_user_counts_before_the_host() {
    let config = parsed(
        "[folders]
         spam = ['Spam']
         [rotation.Spam]
         max_age_days = 30
         [rotation.'Junk/Learned']
         max_messages = 10
         [users.anna.folders]
         learned = 'Done'
         [users.anna.rotation.Spam]
         max_bytes = 7
         [users.bert]
         layout = 'nested'",
    );
    let (host, anna) = (config.settings("nobody"), config.settings("anna"));
    assert_eq!(host.roles.role(&folder("Junk")), Role::Counting);
    assert_eq!(anna.roles.role(&folder("Spam")), Role::Spam);
    assert_eq!(anna.roles.role(&folder("Junk.Learned")), Role::Counting);
    assert_eq!(anna.learned, folder("Done"));

    let quota = |settings: &Settings, name| {
        let named = |(other, _): &&(FolderName, Quota)| *other == folder(name);
        settings.quotas.iter().find(named).map(|(_, quota)| *quota)
    };
    let days = Duration::from_secs(30 * 24 * 60 * 60);
    let none = Quota::default();
    let expected = Quota {
        age: Some(days),
        ..none
    };
    assert_eq!(quota(host, "Spam"), Some(expected));
    let expected = Quota {
        messages: Some(10),
        ..none
    };
    assert_eq!(quota(host, "Junk.Learned"), Some(expected));
    let expected = Quota {
        bytes: Some(7),
        ..none
    };
    assert_eq!(quota(anna, "Spam"), Some(expected));
    assert_eq!(quota(anna, "Done"), Some(LEARNED_QUOTA));
    assert_eq!(config.settings("bert").roles.layout(), Layout::Nested);
}

#[test]
fn a_default_gives_way_to_what_the_file_says() {
    let config = parsed("[folders]\nspam = ['Archive']");
    let roles = &config.settings("anna").roles;
    assert_eq!(roles.role(&folder("Archive")), Role::Spam);
}

#[test]
fn a_special_use_counts_where_nothing_else_is_said() {
    let special_uses = || {
        let all = [
            ("Werbung", Role::Spam),
            ("Lists", Role::Spam),
            ("Archive", Role::Spam),
            ("Papierkorb", Role::Never),
            ("..", Role::Spam),
            ("INBOX", Role::Spam),
        ];
        all.map(|(name, role)| (name.to_owned(), role)).into()
    };
    let role = |text: &str, name| {
        let config = Config::parse_with(text, Path::new("x"), special_uses).unwrap();
        config.settings("anna").roles.role(&folder(name))
    };
    let said = "[folders]\nspam = ['Spam']\nnever = ['Lists']";
    for (name, expected) in [
        ("Spam", Role::Spam),
        ("Junk", Role::Counting),
        ("Werbung", Role::Spam),
        ("Werbung.2024", Role::Spam),
        ("Lists", Role::Never),
        ("Archive", Role::Archive),
        ("Papierkorb", Role::Never),
        ("INBOX", Role::Counting),
    ] {
        assert_eq!(role(said, name), expected, "{name}");
    }
    let without = "mailboxes.dovecot = false";
    assert_eq!(role(without, "Werbung"), Role::Counting);
}

#[test]
fn a_named_mailbox_replaces_those_by_pattern() {
    let dir = tempfile::tempdir().unwrap();
    for user in ["anna", "bert"] {
        fs::create_dir_all(dir.path().join(user).join("Maildir")).unwrap();
    }
    let config = parsed(&format!(
        "mailboxes.patterns = ['{}/*/Maildir', '/dev/null/*']
         users.anna.mailbox = '/srv/anna'",
        dir.path().display()
    ));
    let (places, errors) = config.places(None);
    let bert = format!("{}/bert/Maildir", dir.path().display());
    let shown: Vec<_> = places.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["/srv/anna".to_owned(), bert.clone()]);
    assert_eq!(errors.len(), 1);
    assert_eq!(config.places(Some("bert")).0[0].to_string(), bert);
    assert_eq!(config.places(Some("nobody")).0, []);
}

#[test]
fn what_waits_for_a_restart_is_named_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let parse = |text: &str| {
        let text = format!("database.path = '{}'\n{text}", dir.path().display());
        Config::parse(&text, Path::new("x")).unwrap()
    };
    let before = parse("");
    // It cannot be opened twice.
    before.databases.host().unwrap();
    let mut same = parse("learning.ham_per_day = 3");
    assert_eq!(same.wait_for_restart(&before), [""; 0]);
    assert_eq!(same.settings("anna").ham_per_day, 3);
    same.databases.host().unwrap();
    let mut other = Config::parse(
        "database.path = '/elsewhere'\nservice.socket = '/s'\nspamd.tell_over_tcp = true\n\
         metrics.listen = '127.0.0.1:1'\nwatching.max_watches = 3\n",
        Path::new("x"),
    )
    .unwrap();
    assert_eq!(
        other.wait_for_restart(&before),
        [
            "database",
            "service",
            "spamd",
            "metrics",
            "watching.max_watches"
        ]
    );
    assert_eq!(other, before);
}
