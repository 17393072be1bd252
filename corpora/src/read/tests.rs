use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::*;

const HAM: &[u8] = b"From: a@example.org\r\nSubject: lunch\n\nat noon\xff\0\n";
const SPAM: &[u8] = b"From: b@example.test\nX-Label: spam\n yes\nSubject: pills\n\nbuy\n";

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn plain() -> Strip {
    Strip::default()
}

/// Labels and bytes, in order.
fn check(collection: &Collection, expected: &[(Label, &[u8])]) {
    let found: Vec<(Label, &[u8])> = collection
        .messages
        .iter()
        .map(|m| (m.label, m.bytes.as_slice()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn trec_index_with_roles() {
    let folder = folder(&[
        (
            "full/index",
            b"spam ../data/1\nHam ../data/2\n\nSPAM ../data/1\n",
        ),
        ("data/1", SPAM),
        ("data/2", HAM),
    ]);
    let collection = labelled(folder.path(), &plain()).unwrap();
    check(
        &collection,
        &[(Label::Spam, SPAM), (Label::Ham, HAM), (Label::Spam, SPAM)],
    );
    let roles: Vec<Role> = collection.messages.iter().map(|m| m.role).collect();
    assert_eq!(
        roles,
        [Role::ClassifyAndTrain, Role::ClassifyOnly, Role::TrainOnly]
    );
    // By the index itself, the same.
    let again = labelled(&folder.path().join("full/index"), &plain()).unwrap();
    assert_eq!(again.checksum, collection.checksum);
}

#[test]
fn a_bad_index_names_its_line() {
    let folder = folder(&[("index", b"ham 1\nperhaps 2\n"), ("1", HAM)]);
    let error = labelled(folder.path(), &plain()).unwrap_err().to_string();
    assert!(
        error.contains("index:2") && error.contains("perhaps 2"),
        "{error}"
    );
    let folder = self::folder(&[("index", b"ham missing\n")]);
    let error = labelled(folder.path(), &plain()).unwrap_err().to_string();
    assert!(error.contains("missing"), "{error}");
}

#[test]
fn folders_by_name() {
    let folder = folder(&[
        ("spamassassin/easy_ham/10", b"c"),
        ("spamassassin/easy_ham/9", b"b"),
        ("spamassassin/spam-2/1", b"s"),
        ("spamassassin/README", b"no mail"),
        ("spamassassin/spam-2/.hidden", b"no mail"),
    ]);
    let collection = labelled(folder.path(), &plain()).unwrap();
    check(
        &collection,
        &[(Label::Ham, b"b"), (Label::Spam, b"s"), (Label::Ham, b"c")],
    );
}

#[test]
fn nothing_says_which_is_which() {
    let folder = folder(&[("inbox/1", HAM)]);
    let error = labelled(folder.path(), &plain()).unwrap_err().to_string();
    assert!(error.contains("--ham"), "{error}");
}

#[test]
fn maildir_and_mbox_as_a_pair() {
    let folder = folder(&[
        ("mail/cur/1.a.host:2,S", HAM),
        ("mail/new/2.a.host", HAM),
        ("mail/tmp/3.a.host", b"half a mess"),
        ("mail/dovecot.index.cache", b"no mail"),
        (
            "spam.mbox",
            b"From x\nSubject: 1\n\nFrom here\ntext\nFrom us\n\nFrom y\r\n\r\nbody\r\n\r\nFrom z\n\n",
        ),
    ]);
    let path = |name: &str| folder.path().join(name);
    let collection = pair(&path("mail"), &path("spam.mbox"), &plain()).unwrap();
    let spam: Vec<&[u8]> = collection
        .messages
        .iter()
        .filter(|m| m.label == Label::Spam)
        .map(|m| m.bytes.as_slice())
        .collect();
    // "From here" follows a blank line: that is what a mark looks like.
    assert_eq!(
        spam,
        [
            b"From x\nSubject: 1\n\n".as_slice(),
            b"From here\ntext\nFrom us\n\n",
            b"From y\r\n\r\nbody\r\n\r\n",
            b"From z\n\n",
        ]
    );
    assert_eq!(collection.messages.len(), 6);
    assert_eq!(collection.messages[1].id, "cur/1.a.host:2,S");
}

#[test]
fn archives_of_each_kind() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("c/index", b"ham data/1\nspam data/2\n".as_slice()),
        ("c/data/1", HAM),
        ("c/data/2", SPAM),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar).unwrap();
    let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz2.write_all(&tar).unwrap();
    let mut xz = Vec::new();
    lzma_rs::xz_compress(&mut tar.as_slice(), &mut xz).unwrap();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zst = ruzstd::encoding::compress_to_vec(tar.as_slice(), level);
    for path in [
        write("c.tar", &tar),
        write("c.tar.gz", &gz.finish().unwrap()),
        write("c.tar.bz2", &bz2.finish().unwrap()),
        write("c.tar.xz", &xz),
        write("c.tar.zst", &zst),
    ] {
        let collection = labelled(&path, &plain()).unwrap();
        check(&collection, &[(Label::Ham, HAM), (Label::Spam, SPAM)]);
    }
    let broken = labelled(&write("broken.tar.gz", b"no archive"), &plain());
    assert!(broken.unwrap_err().to_string().contains("broken.tar.gz"));
}

#[test]
fn strips_what_it_is_asked_to() {
    let strip = |headers: &[&str], mbox_from, message: &[u8]| {
        let strip = Strip {
            headers: headers.iter().map(|h| (*h).to_owned()).collect(),
            mbox_from,
        };
        let mut bytes = message.to_vec();
        strip.apply(&mut bytes);
        bytes
    };
    let expected = b"From: b@example.test\nSubject: pills\n\nbuy\n";
    assert_eq!(strip(&["x-label"], false, SPAM), expected);
    assert_eq!(strip(&["X-*"], false, SPAM), expected);
    assert_eq!(strip(&["X-Lab"], false, SPAM), SPAM);
    assert_eq!(
        strip(&["X-*"], false, b"A: 1\n\nX-Body: stays\n"),
        b"A: 1\n\nX-Body: stays\n"
    );
    assert_eq!(strip(&[], true, b"From x\nA: 1\n"), b"A: 1\n");
    assert_eq!(strip(&[], true, b"From: x\n"), b"From: x\n");
    assert_eq!(strip(&["*"], false, b""), b"");
}

proptest::proptest! {
    #[test]
    fn splitting_loses_nothing(text in "(From |\n|\r|a|:){0,60}") {
        let parts: Vec<&[u8]> = mbox::split(text.as_bytes()).collect();
        proptest::prop_assert_eq!(parts.concat(), text.as_bytes());
    }
}
