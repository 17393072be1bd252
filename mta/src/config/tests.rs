use super::*;

fn parsed(text: &str) -> Config {
    Config::parse(text, Path::new("postern.toml")).unwrap()
}

#[test]
fn the_example_file_says_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/postern.toml");
    let example = fs::read_to_string(&path).unwrap();
    let least = parsed("host = 'mail.example.org'");
    assert_eq!(Config::read(&path).unwrap(), least);

    // Every line that is only a comment with a key in it may be used as it is.
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "secret\n").unwrap();
    let uncommented: String = example
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n")
        .collect();
    let uncommented = uncommented.replace("/etc/postern.password", &password.display().to_string());
    let all = parsed(&uncommented);
    assert_eq!(all.user.as_deref(), Some("postern"));
    assert!(all.tls.is_named && all.pipeline.clamd.is_some() && all.remote.dns.is_some());
    let credentials = all.remote.routes[0].credentials.as_ref().unwrap();
    assert_eq!(credentials.password, "secret");
}

#[test]
fn every_key_stands_in_the_example_file() {
    let example = include_str!("../../../docs/postern.toml");
    let structs = include_str!("raw.rs");
    let keys = structs.lines().filter_map(|line| {
        let (name, _) = line.trim().strip_prefix("pub(super) ")?.split_once(':')?;
        Some(name)
    });
    let mut n = 0;
    for key in keys {
        let own = [
            format!("{key} = "),
            format!("[{key}"),
            format!("[[{key}]]"),
            format!(".{key}]]"),
        ];
        // An inline password is said in words.
        let is_there = own.iter().any(|text| example.contains(text));
        assert!(is_there || key == "password", "{key} is not explained");
        n += 1;
    }
    assert!(n > 40, "{n}");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, expected) in [
        ("", "x.toml:1: host is missing"),
        (
            "\nversion = 2\nnew = 1",
            "x.toml:2: it has format version 2, and this program reads versions up to 1; go back",
        ),
        ("version = 0", "x.toml:1: a version is a number from 1 to 1"),
        ("host = 'mail'", "x.toml:1: \"mail\" is no host name"),
        ("host = 'a b.org'", "x.toml:1: \"a b.org\" is no host name"),
        ("HOST\ndata = 'var'", "x.toml:2: a path begins with /"),
        ("HOST\nhosts = 1", "x.toml:2: unknown field `hosts`"),
        (
            "HOST\n[listen]\nsmtp = ['25']",
            "x.toml:3: \"25\" is no address with a port",
        ),
        (
            "HOST\n[listen]\nlmtp = ['a:24']",
            "x.toml:3: \"a:24\" is no address",
        ),
        (
            "HOST\n[listen]\nmax_sessions = 0",
            "x.toml:3: invalid value: integer `0`",
        ),
        (
            "HOST\n[smtp]\n\nrelay_networks = ['all']",
            "x.toml:4: \"all\" is no network",
        ),
        (
            "HOST\n[gate]\nodd_helo = 'drop'",
            "x.toml:3: unknown variant `drop`, expected one of `pass`, `suspect`, `refuse`",
        ),
        (
            "HOST\n[[gate.dns_list]]\nzone = 'a b'\nabout = 'address'",
            "x.toml:3: \"a b\" is no name of a DNS list",
        ),
        (
            "HOST\n[[gate.dns_list]]\nzone = 'x.org'\nabout = 'address'\nweight = 0.0",
            "x.toml:5: a list counts more or less than 0",
        ),
        (
            "HOST\n[[gate.dns_list]]\nzone = 'x.org'\nabout = 'domain'\nanswers = ['2']",
            "x.toml:5: \"2\" is no network",
        ),
        (
            "HOST\n[tls]\nkey = '/k'",
            "x.toml:3: certificate and key belong together",
        ),
        (
            "HOST\n[login]\ncheckpassword = ['/bin/checkpassword']",
            "x.toml:3: a program and what it runs",
        ),
        (
            "HOST\n[login]\ncheckpassword = ['checkpassword', 'true']",
            "x.toml:3: \"checkpassword\" is no path",
        ),
        (
            "HOST\n[scanner]\nvirus = 'eat'",
            "x.toml:3: unknown variant `eat`, expected one of `refuse`",
        ),
        (
            "HOST\n[scanner]\nclamd = 'localhost'",
            "x.toml:3: \"localhost\" is neither a path nor an address",
        ),
        (
            "HOST\n[[route]]\ndomain = 'a@b'\nhost = 'c.org'",
            "x.toml:3: \"a@b\" is no domain",
        ),
        (
            "HOST\n[[route]]\ndomain = 'c.org'\nport = 26",
            "x.toml:2: a port or a user needs a host",
        ),
        (
            "HOST\n[[route]]\ndomain = '*'\nhost = 'c.org'\nuser = 'u'",
            "x.toml:2: user and password belong together",
        ),
        (
            "HOST\n[[route]]\ndomain = '*'\nhost = 'c.org'\nuser = 'u'\npassword_file = '/nonexistent'",
            "x.toml:6: cannot read /nonexistent",
        ),
        (
            "HOST\n[learning]\nmove_after = 3",
            "x.toml:2: unknown field `move_after`",
        ),
    ] {
        let text = text.replace("HOST", "host = 'mail.example.org'");
        let error = Config::parse(&text, Path::new("x.toml")).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(expected), "{text}\ngave {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
