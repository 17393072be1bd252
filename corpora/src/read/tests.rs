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
    let collection = labelled(folder.path(), &mut plain()).unwrap();
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
    let again = labelled(&folder.path().join("full/index"), &mut plain()).unwrap();
    assert_eq!(again.checksum, collection.checksum);
}

#[test]
fn a_bad_index_names_its_line() {
    let folder = folder(&[("index", b"ham 1\nperhaps 2\n"), ("1", HAM)]);
    let error = labelled(folder.path(), &mut plain())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("index:2") && error.contains("perhaps 2"),
        "{error}"
    );
    let folder = self::folder(&[("index", b"\nham missing one\n")]);
    let error = labelled(folder.path(), &mut plain())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("index:2: there is no file missing one"),
        "{error}"
    );
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
    let collection = labelled(folder.path(), &mut plain()).unwrap();
    check(
        &collection,
        &[(Label::Ham, b"b"), (Label::Spam, b"s"), (Label::Ham, b"c")],
    );
}

#[test]
fn nothing_says_which_is_which() {
    let folder = folder(&[("inbox/1", HAM)]);
    let error = labelled(folder.path(), &mut plain())
        .unwrap_err()
        .to_string();
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
    let collection = pair(&path("mail"), &path("spam.mbox"), &mut plain()).unwrap();
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

/// Once `.Junk` counted as ham of the Maildir that it belongs to.
#[test]
fn a_maildir_is_without_its_sub_folders() {
    let folder = folder(&[
        ("mpp/cur/1.a.host:2,S", HAM),
        ("mpp/new/2.a.host", HAM),
        ("mpp/tmp/3.a.host", b"half a mess"),
        ("mpp/subscriptions", b"no mail"),
        ("mpp/.Junk/cur/4.a.host:2,S", SPAM),
        ("mpp/.Junk/maildirfolder", b"\n"),
        ("mpp/.Junk/new/5.a.host", SPAM),
    ]);
    let path = |name: &str| folder.path().join(name);
    let collection = pair(&path("mpp"), &path("mpp/.Junk"), &mut plain()).unwrap();
    check(
        &collection,
        &[
            (Label::Ham, HAM),
            (Label::Spam, SPAM),
            (Label::Ham, HAM),
            (Label::Spam, SPAM),
        ],
    );
    // Nor of a folder above it.
    assert_eq!(unlabelled(folder.path(), Label::Ham).unwrap().len(), 2);
}

/// Folders of a Maildir++ that are named ham and spam are labels all the same.
#[test]
fn sub_folders_of_a_maildir_by_name() {
    let folder = folder(&[
        ("cur/1.a.host", b"who knows"),
        (".Ham/cur/1.a.host", HAM),
        (".spam/cur/1.a.host", SPAM),
        (".spam/tmp/1.a.host", b"half a mess"),
        (".spam.ham-or-not/cur/1.a.host", b"who knows"),
    ]);
    let collection = labelled(folder.path(), &mut plain()).unwrap();
    let names: Vec<&str> = collection.messages.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(names, [".Ham/cur/1.a.host", ".spam/cur/1.a.host"]);
}

/// One Maildir once hid every file outside of it.
#[test]
fn a_maildir_beside_plain_files() {
    let files: [(&str, &[u8]); 4] = [
        ("mix/ham/cur/1.a.host", HAM),
        ("mix/ham/tmp/2.a.host", b"half a mess"),
        ("mix/spam/1", SPAM),
        ("mix/spam/new/2", SPAM),
    ];
    let folder = folder(&files);
    fs::create_dir(folder.path().join("mix/ham/new")).unwrap();
    let expected = [(Label::Spam, SPAM), (Label::Ham, HAM), (Label::Spam, SPAM)];
    check(&labelled(folder.path(), &mut plain()).unwrap(), &expected);
    let tar = folder.path().join("mix.tar");
    fs::write(&tar, packed(&files)).unwrap();
    check(&labelled(&tar, &mut plain()).unwrap(), &expected);
}

#[test]
fn empty_folders_are_called_so() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ham", "spam"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let error = labelled(folder.path(), &mut plain()).unwrap_err();
    assert!(error.to_string().starts_with("no message in "), "{error}");
}

/// Such names once became one, and all but one of the messages were gone.
#[test]
fn names_that_are_no_text() {
    let name = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name));
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in [
        (name(b"ham/\xe4"), HAM),
        (name(b"ham/\xf6"), HAM),
        (name(b"spam/1"), SPAM),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let collection = labelled(folder.path(), &mut plain()).unwrap();
    let names: Vec<&str> = collection.messages.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(names, ["ham/\\xE4", "spam/1", "ham/\\xF6"]);
    // Nor could an index name them.
    fs::write(
        folder.path().join("index"),
        b"ham ham/\xf6\nspam spam/1\nham ham/\xe4\n",
    )
    .unwrap();
    let collection = labelled(folder.path(), &mut plain()).unwrap();
    let names: Vec<&str> = collection.messages.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(names, ["ham/\\xF6", "spam/1", "ham/\\xE4"]);
}

#[test]
fn an_index_as_editors_and_the_kit_of_2005_leave_it() {
    let folder = folder(&[
        (
            "index",
            b"\xef\xbb\xbf\r\n\nspam data/1 jm genre\r\nham data/b c\n",
        ),
        ("data/1", SPAM),
        ("data/b c", HAM),
    ]);
    let collection = labelled(folder.path(), &mut plain()).unwrap();
    check(&collection, &[(Label::Spam, SPAM), (Label::Ham, HAM)]);
    assert_eq!(collection.messages[0].id, "data/1");
}

/// A compressed file was once one message of rubbish.
#[test]
fn compressed_files_are_unpacked() {
    let gz = |bytes: &[u8]| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    };
    let mbox = [b"From x\n".as_slice(), HAM, b"\nFrom y\n", HAM].concat();
    let folder = folder(&[
        ("ham.mbox.gz", &gz(&mbox)),
        ("spam/cur/1.a.host", &gz(SPAM)),
    ]);
    let collection = labelled(folder.path(), &mut plain()).unwrap();
    assert_eq!(collection.messages.len(), 3);
    let spam = unlabelled(&folder.path().join("spam"), Label::Spam).unwrap();
    assert_eq!(spam[0].bytes, SPAM);
    let cut = &gz(SPAM)[..20];
    fs::write(folder.path().join("ham.mbox.gz"), cut).unwrap();
    let error = labelled(folder.path(), &mut plain()).unwrap_err();
    assert!(error.to_string().contains("ham.mbox.gz"), "{error}");
}

/// A tar archive that knows no folders.
fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn archives_of_each_kind() {
    let tar = packed(&[
        ("c/index", b"ham data/1\nspam data/2\n"),
        ("c/data/1", HAM),
        ("c/data/2", SPAM),
    ]);
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
        let collection = labelled(&path, &mut plain()).unwrap();
        check(&collection, &[(Label::Ham, HAM), (Label::Spam, SPAM)]);
    }
    for broken in [
        write("broken.tar.gz", b"no archive"),
        write("broken.tar.xz", b"\xfd7zXZ\0no archive"),
        write("broken.tar.zst", b"\x28\xb5\x2f\xfd"),
    ] {
        let error = labelled(&broken, &mut plain()).unwrap_err().to_string();
        let expected = format!("cannot unpack {}: it is damaged", broken.display());
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn strips_what_it_is_asked_to() {
    let strip = |headers: &[&str], mbox_from, message: &[u8]| {
        let mut strip = Strip {
            headers: headers
                .iter()
                .map(|h| FieldPattern::parse(h).unwrap())
                .collect(),
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
    assert_eq!(strip(&["X-Label:"], false, SPAM), expected);
    assert_eq!(strip(&["*-LABEL", "X-*y"], false, SPAM), expected);
    assert_eq!(strip(&["X-*e"], false, SPAM), SPAM);
    for no_name in ["", ":", "X Label", "A:B", "\u{e4}"] {
        assert!(FieldPattern::parse(no_name).is_err(), "{no_name}");
    }
}

#[test]
fn what_nothing_was_stripped_by_is_known() {
    let folder = folder(&[("ham/1", HAM), ("spam/1", SPAM)]);
    let headers = ["x-label", "X-Lable"].map(|name| FieldPattern::parse(name).unwrap());
    let mut strip = Strip {
        headers: headers.into(),
        mbox_from: false,
    };
    labelled(folder.path(), &mut strip).unwrap();
    assert_eq!(strip.unmatched().collect::<Vec<_>>(), ["X-Lable"]);
}

proptest::proptest! {
    #[test]
    fn splitting_loses_nothing(text in "(From |\n|\r|a|:){0,60}") {
        let parts: Vec<&[u8]> = mbox::split(text.as_bytes()).collect();
        proptest::prop_assert_eq!(parts.concat(), text.as_bytes());
    }
}
