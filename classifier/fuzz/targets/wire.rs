//! Any bytes as a frame between `bmf` and `bmfd`: it is refused, or says the
//! same after it was written again.
#![no_main]

use classifier::cli::wire::{HEADER_LEN, Header, Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, content)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return;
    };
    let Ok(mut header) = Header::parse(head) else {
        return;
    };
    // As much is read as was announced.
    header.len = content.len() as u32;
    if let Ok(request) = Request::parse(header, content) {
        let written = request.to_bytes().expect("it was no longer than this");
        let (head, content) = written.split_first_chunk().expect("a header");
        let header = Header::parse(head).expect("ours");
        assert_eq!(header.len as usize, content.len());
        assert_eq!(Request::parse(header, content), Ok(request));
    }
    if let Ok(reply) = Reply::parse(header, content) {
        let written = reply.to_bytes();
        let (head, content) = written.split_first_chunk().expect("a header");
        let header = Header::parse(head).expect("ours");
        assert_eq!(Reply::parse(header, content), Ok(reply));
    }
});
