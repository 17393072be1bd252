//! The features of these messages are part of a model's format: a model that
//! was trained with others would not know them any more. So they are pinned;
//! whoever changes one on purpose raises the version of the model.

use classifier::modern::features;

/// Names all hashes of all views: FNV-1a, 64 bits.
fn digest(raw: &[u8]) -> u64 {
    let views = features(raw).views;
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for view in &views {
        assert!(view.is_sorted_by(|a, b| a < b), "ascending and distinct");
        let hashes = view.iter().flat_map(|feature| feature.to_le_bytes());
        for byte in (view.len() as u64).to_le_bytes().into_iter().chain(hashes) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash
}

const PLAIN: &[u8] = b"Received: from mx.example.org (mx.example.org [192.0.2.1])\n\
    \tby mail.example.net (Postfix) with ESMTP id 4B1C2; Mon, 1 Mar 2004 10:11:12 +0100\n\
    DKIM-Signature: v=1; b=aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3+/=\n\
    From: \"A. Writer\" <a.writer@example.org>\nTo: reader@example.net\n\
    Date: Mon, 1 Mar 2004 10:11:10 +0100\nMessage-ID: <20040301.A1b-c@mx.example.org>\n\
    X-Mailer: Mailer 1.2 (UNIX)\nSubject: Re: [list] lunch, $100 off!\n\n\
    Don't  miss it: see http://www.example.net/free/offer?x=1 or (www.example.com).\n\
    \tPrices: 3.14, 1,000% sure -- e-mail me_now...\x01\x0b\x0c end's\r\n'quoted' a.b.c. -x-\n";

const HTML: &[u8] = b"From b@example.org Mon Mar  1 10:11:12 2004\r\n\
    Content-Type: multipart/mixed; boundary=\"b1\"\r\nMIME-Version: 1.0\r\n\
    Subject: =?utf-8?b?R3LDvMOfZQ==?= =?iso-8859-1?q?caf=E9?=\r\n\
    From: =?utf-8?q?J=C3=B6rg?= <j@example.org>\r\n\r\n--b1\r\n\
    Content-Type: text/html; charset=ISO-8859-1\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\r\n\
    <html><head><style>p {color: red}</style></head><BODY bgcolor=3D#ffffff>\r\n\
    <p>Buy&nbsp;<b>Via</b>gra &amp; caf=E9 &#x41;&#8364;<!-- ham words --><span style=3D'display: n=\r\n\
    one'>meeting</span><font color=3D#fffffe>white</font> 1 &lt; 2 <a HREF=3D\"http://X.example/y/zz?q\">\
    here</a><img src=3Dcid:1></p></BODY></html>\r\n--b1\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
    w5xiZXIgMTAwIMOGcGZlbCwg4oKsNTDigJRqZXR6dCEK\r\n--b1\r\n\
    Content-Type: application/pdf; name=\"Invoice 2004.PDF\"\r\n\
    Content-Disposition: attachment; filename=\"Invoice 2004.PDF\"\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQK\r\n--b1--\r\n";

const SCRIPTS: &str = "Subject: p\u{430}ypal \u{ff36}\u{ff29}\u{ff21} \u{1d405}\u{1d42b}\n\
    Content-Type: text/plain; charset=utf-8\n\n\
    \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43c}\u{438}\u{440}! V\u{200b}i\u{ad}agra \
    \u{514d}\u{8d39}\u{673a}\u{4f1a}abc\u{0e2a}\u{0e27}\u{0e31}\u{0e2a}\u{0e14}\u{0e35} \
    \u{645}\u{631}\u{62d}\u{628}\u{627} \u{d55c}\u{ad6d}\u{c5b4} \u{130}stanbul Stra\u{df}e \
    don\u{2019}t\u{a0}x\u{2003}y\u{85}z \u{24b6}\u{24d1} \u{1d7d8}3 \u{20ac}5 \u{a3}\u{a5}\n";

const UNDECLARED: &[u8] = b"Subject: \xc3\xe2\xb7\xd1\xbb\xfa\xbb\xe1\nX-\xff: caf\xe9 \xa0\n\
    Content-Type: text/plain; charset=us-ascii\n\n\xc3\xe2\xb7\xd1 caf\xe9 na\xefve\n";

/// A long message of words that depend on `seed` alone, some beyond ASCII.
fn long(seed: u64, n_words: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut raw = String::from("Subject: long\nContent-Type: text/plain; charset=utf-8\n\n");
    for _ in 0..n_words {
        for _ in 0..=next(7) {
            let c = match next(40) {
                0 => '\u{e9}',
                1 => '\u{4e2d}',
                2 => '\'',
                3 => '-',
                4 => 'Q',
                5 => '7',
                n => char::from(b'a' + (n % 26) as u8),
            };
            raw.push(c);
        }
        raw.push(if next(9) == 0 { '\n' } else { ' ' });
    }
    raw.into_bytes()
}

#[test]
fn features_are_those_of_the_format() {
    let noise: Vec<u8> = (0..4_000u32).map(|n| ((n * n * 31) >> 5) as u8).collect();
    let same = [b"Subject: a\n\n".to_vec(), vec![b'a'; 9_000]].concat();
    let rows: [(&str, &[u8], u64); 10] = [
        ("empty", b"", 0x81d2_3fd7_003c_2305),
        ("plain", PLAIN, 0x2d22_4572_57da_d978),
        ("html", HTML, 0x04fd_2a8f_77ae_058b),
        ("scripts", SCRIPTS.as_bytes(), 0x2f01_08da_9be4_c31d),
        ("undeclared", UNDECLARED, 0x8b23_4017_b16b_0514),
        ("noise", &noise, 0x6ead_1515_9511_32ee),
        ("same", &same, 0x59f7_c45d_0627_aaab),
        ("short", &long(1, 40), 0xd2b1_4b4b_a5b0_a0d6),
        ("long", &long(2, 900), 0xa4ed_55ee_55e1_e365),
        ("longer", &long(3, 6_000), 0x4375_8165_e4c7_fd66),
    ];
    let found = rows.map(|(name, raw, _)| format!("{name} {:#018x}", digest(raw)));
    let expected = rows.map(|(name, _, digest)| format!("{name} {digest:#018x}"));
    assert_eq!(found, expected);
}
