//! OpenDKIM, an implementation of DKIM that is neither ours nor Python's.

use std::fs;

use tests::programs::peer_in_sbin;

/// Of each signature in `message`, whose lines end with LF, what OpenDKIM says
/// of it by the records that `postern dkim list --json` has printed. It looks
/// at one that it likes, so each is shown to it alone.
pub fn verify(message: &[u8], records: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let records = records.lines().map(|line| {
        let key: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        format!("{} {}\n", text("name"), text("text"))
    });
    fs::write(at("records"), records.collect::<String>()).unwrap();
    let configuration = format!("TestDNSData file:{}\n", at("records").display());
    fs::write(at("opendkim.conf"), configuration).unwrap();
    let signatures = fields(message);
    let is_signature = |field: &&[u8]| field.starts_with(b"DKIM-Signature:");
    let body = signatures.iter().map(|field| field.len()).sum::<usize>();
    let n = signatures
        .iter()
        .filter(|field| is_signature(field))
        .count();
    let alone = |n: usize| {
        let mut seen = 0;
        let mut alone = Vec::new();
        for field in &signatures {
            let is_other = is_signature(field) && {
                seen += 1;
                seen != n + 1
            };
            if !is_other {
                alone.extend_from_slice(field);
            }
        }
        alone.extend_from_slice(&message[body..]);
        alone
    };
    let said = (0..n).map(|n| {
        fs::write(at("message"), alone(n)).unwrap();
        let output = peer_in_sbin("opendkim")
            .arg("-x")
            .arg(at("opendkim.conf"))
            .args(["-v", "-t"])
            .arg(at("message"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8(said).unwrap()
    });
    said.collect()
}

/// The fields of the header section, each with the lines that continue it.
fn fields(message: &[u8]) -> Vec<&[u8]> {
    let mut fields: Vec<&[u8]> = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if end > begin && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            fields.push(&message[begin..end]);
            begin = end;
        }
        if line == b"\n" {
            break;
        }
        end += line.len();
    }
    fields
}
