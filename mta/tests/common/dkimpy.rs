//! dkimpy, an implementation of DKIM and ARC that is not ours.

use std::io::Write;
use std::process::{Command, Stdio};

use tests::programs::python;

/// Prints for each signature of a message, whether it verifies with the
/// records that stand in the first argument, a JSON object a line.
const VERIFY: &str = "\
import dkim, json, sys
records = {}
for line in sys.argv[1].splitlines():
    key = json.loads(line)
    records[key['name']] = key['text']
message = sys.stdin.buffer.read().replace(b'\\n', b'\\r\\n')
find = lambda name, timeout=5: records.get(name.decode().rstrip('.'))
count = sum(1 for name, _ in dkim.DKIM(message).headers if name.lower() == b'dkim-signature')
for n in range(count):
    signature = dkim.DKIM(message)
    try:
        found = signature.verify(idx=n, dnsfunc=find)
    except dkim.DKIMException as error:
        found = error
    fields = signature.signature_fields
    print(fields[b'a'].decode(), fields[b'd'].decode(), fields[b's'].decode(), found)
";

/// Of each signature in `message`, whose lines end with LF: algorithm, domain,
/// selector, and True when it holds by the records that `postern dkim list
/// --json` has printed.
pub fn verify(message: &[u8], records: &str) -> Vec<String> {
    let text = run(VERIFY, &[records], message);
    text.lines().map(str::to_owned).collect()
}

/// What a script that uses dkimpy prints.
pub fn run(script: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut command: Command = python();
    command.args(["-c", script]).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
