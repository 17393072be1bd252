//! What is compressed, told by its first bytes, whatever it is called.

use std::io::{self, BufRead, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The beginnings of gzip (RFC 1952), bzip2, xz and Zstandard (RFC 8878). No
/// message begins like one of them.
const GZIP: &[u8] = b"\x1f\x8b";
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

const ARCHIVES: [&[u8]; 9] = [
    b".tar",
    b".tar.gz",
    b".tgz",
    b".tar.bz2",
    b".tbz",
    b".tar.xz",
    b".txz",
    b".tar.zst",
    b".tzst",
];

/// Whether `path` is called like a tar archive.
pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.as_os_str().as_bytes().to_ascii_lowercase();
    ARCHIVES.iter().any(|ending| name.ends_with(ending))
}

/// Whether `bytes` are compressed.
pub(super) fn is_packed(bytes: &[u8]) -> bool {
    [GZIP, BZIP2, XZ, ZSTD]
        .iter()
        .any(|begin| bytes.starts_with(begin))
}

/// What `packed` holds once it is decompressed, or `packed` itself.
///
/// # Errors
/// When it is damaged.
pub(super) fn plain<'a>(packed: &'a mut dyn BufRead) -> io::Result<Box<dyn Read + 'a>> {
    let begin = packed.fill_buf()?;
    Ok(if begin.starts_with(GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(packed))
    } else if begin.starts_with(BZIP2) {
        Box::new(bzip2::bufread::MultiBzDecoder::new(packed))
    } else if begin.starts_with(XZ) {
        let mut packed = packed;
        let mut plain = Vec::new();
        lzma_rs::xz_decompress(&mut packed, &mut plain).map_err(io::Error::other)?;
        Box::new(Cursor::new(plain))
    } else if begin.starts_with(ZSTD) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(packed);
        Box::new(decoder.map_err(io::Error::other)?)
    } else {
        Box::new(packed)
    })
}
