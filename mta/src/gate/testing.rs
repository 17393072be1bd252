//! Name servers for tests, which do what they should not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;

/// What a name server of the test's own does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Habit {
    /// It never answers.
    Silent,
    /// What comes is no DNS.
    Garbage,
    /// The answer is cut off in its middle.
    Cut,
    /// It answers to another question.
    Other,
    /// It has failed.
    Fails,
    /// It says 127.0.0.2 and 127.0.0.3, and a text.
    Lists,
}

/// All ways of giving no answer.
pub(crate) const TROUBLE: [Habit; 5] = [
    Habit::Silent,
    Habit::Garbage,
    Habit::Cut,
    Habit::Other,
    Habit::Fails,
];

/// A question is a header, a name, type and class; the rest is not ours.
fn answer(habit: Habit, query: &[u8]) -> Option<Vec<u8>> {
    let name = query[12..].iter().position(|b| *b == 0)? + 13;
    let kind = query[name + 1];
    let mut answer = query[..name + 4].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut record = |kind: u8, data: &[u8]| {
        answer[7] += 1;
        answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0]);
        answer.push(u8::try_from(data.len()).unwrap());
        answer.extend(data);
    };
    match (habit, kind) {
        (Habit::Silent, _) => return None,
        (Habit::Garbage, _) => return Some(vec![0xff; 7]),
        (Habit::Fails, _) => answer[3] = 0x82,
        (Habit::Cut, kind) => record(kind, &[0; 16]),
        (_, 16) => record(16, b"\x0blisted: \x1b[m"),
        (_, 1) => {
            record(1, &[127, 0, 0, 3]);
            record(1, &[127, 0, 0, 2]);
        }
        _ => {}
    }
    match habit {
        Habit::Cut => answer.truncate(name + 8),
        Habit::Other => answer[0] ^= 0xff,
        _ => {}
    }
    Some(answer)
}

/// Where it listens, and how often it was asked.
pub(crate) async fn name_server(habit: Habit) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut query = [0; 512];
        loop {
            let (n, client) = socket.recv_from(&mut query).await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            if let Some(answer) = answer(habit, &query[..n]) {
                socket.send_to(&answer, client).await.unwrap();
            }
        }
    });
    (address, asked)
}
