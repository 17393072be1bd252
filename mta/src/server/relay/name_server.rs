//! Every address is called `mx.trusted.test`, as whoever owns an address can
//! have it called; only [`TRUSTED`] is what that name leads back to.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

pub(super) const TRUSTED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

const NAME: &[u8] = b"\x02mx\x07trusted\x04test\0";
const PTR: u8 = 12;
const A: u8 = 1;

/// Ends with the runtime.
pub(super) async fn start() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((n, client)) = socket.recv_from(&mut query).await {
            if let Some(answer) = answer(&query[..n]) {
                let _ = socket.send_to(&answer, client).await;
            }
        }
    });
    address
}

/// A question is a header, a name, type and class: RFC 1035 §4.1.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let name = query[12..].iter().position(|b| *b == 0)? + 13;
    let kind = query[name + 1];
    let mut answer = query[..name + 4].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    let data = match kind {
        PTR => NAME,
        // Letters of a question may be of either case.
        A if query[12..name].eq_ignore_ascii_case(NAME) => &TRUSTED.octets(),
        A => &[192, 0, 2, 80],
        _ => return Some(answer),
    };
    answer[7] = 1;
    answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0]);
    answer.push(u8::try_from(data.len()).ok()?);
    answer.extend(data);
    Some(answer)
}
