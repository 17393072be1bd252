//! Reads the lists that Debian's bmf keeps in Berkeley DB, so that its users
//! keep what they taught it.
//!
//! Only what libdb 5.3 writes for bmf is read: one B-tree in a file, without
//! duplicates, compression, checksums or encryption, of either byte order.
//! There is no writer.
//!
//! # The file
//!
//! Pages of one size, numbered from 0. Numbers have the byte order of the
//! machine that made the file; the magic number tells which.
//!
//! | page | at | what |
//! | --- | --- | --- |
//! | all | 8 | u32 number of the page |
//! | 0, the meta page | 12, 16, 20 | u32 magic, version, page size |
//! | | 24, 25, 26 | u8 encryption, page type 9, flags (1: checksums) |
//! | | 32, 36, 48 | u32 last page, partitions, flags of the tree |
//! | | 88 | u32 root page |
//! | others | 16 | u32 next page of a chain |
//! | | 20, 22 | u16 number of items; bytes used, in an overflow page |
//! | | 24, 25 | u8 level (leaves: 1), page type |
//! | | 26 | u16 where each item lies in the page; or an overflow page's bytes |
//!
//! An item of an internal page (type 3) holds a child's u32 page number at 4.
//! The items of a leaf (type 5) are keys and values in turn: a u16 length, a
//! u8 type (1), the bytes; or, with type 3, at 4 the u32 first of a chain of
//! overflow pages (type 7), and at 8 their u32 total length. Bit 7 of the
//! type: deleted.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::Error;

/// One of bmf's two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Number of messages registered.
    pub messages: u32,
    /// Tokens and counts, in the order of the file.
    pub tokens: Vec<(Vec<u8>, u32)>,
}

/// bmf's key for the number of messages.
const MESSAGES: &[u8] = b".MSGCOUNT";

const MAGIC: u32 = 0x0005_3162;
/// Of all versions of libdb from 4.0 to 5.3.
const VERSION: u32 = 9;

const INTERNAL: u8 = 3;
const LEAF: u8 = 5;
const OVERFLOW: u8 = 7;
const BTREE_META: u8 = 9;

const PAGE_HEADER: usize = 26;
const ITEM_HEADER: usize = 3;
const ITEM_IN_PAGE: u8 = 1;
const ITEM_IN_OVERFLOW: u8 = 3;
const ITEM_DELETED: u8 = 0x80;

impl List {
    /// Reads the file at `path`. A file of no bytes is an empty list.
    ///
    /// # Errors
    /// When it cannot be read, is damaged or of another kind, or a bmf keeps
    /// writing to it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // libdb locks nothing. A file that did not change while it was read
        // was read whole.
        for _ in 0..ATTEMPTS {
            if let Some(bytes) = read(path).map_err(Error::io("read", path))? {
                return Self::parse(&bytes).map_err(|detail| Error::Damaged {
                    path: path.to_owned(),
                    detail,
                });
            }
        }
        Err(Error::Locked {
            path: path.to_owned(),
            waited: Duration::ZERO,
            owner: Some("a bmf that writes to it".into()),
        })
    }

    /// Reads the bytes of a file. Takes time in proportion to their number,
    /// whatever they are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let mut list = Self::default();
        if file.is_empty() {
            return Ok(list);
        }
        let (mut tree, root) = Tree::open(file)?;
        tree.walk(root, &mut |key, value| {
            if key == MESSAGES {
                list.messages = value;
            } else {
                list.tokens.push((key.to_vec(), value));
            }
        })?;
        Ok(list)
    }
}

const ATTEMPTS: u32 = 5;

/// The whole file. `None`: somebody wrote to it meanwhile.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let stamp = |file: &File| file.metadata().and_then(|m| Ok((m.len(), m.modified()?)));
    let before = stamp(&file)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((stamp(&file)? == before).then_some(bytes))
}

#[derive(Clone, Copy, Debug)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    fn u16(self, bytes: &[u8], at: usize) -> Option<usize> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(usize::from(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }))
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        })
    }
}

/// A tree of which some pages were read.
struct Tree<'a> {
    file: &'a [u8],
    order: ByteOrder,
    page_size: usize,
    /// By page number. A sound tree refers to each page once; to insist on
    /// that bounds the work, and no loop goes unnoticed.
    seen: Vec<bool>,
}

impl<'a> Tree<'a> {
    /// Checks the meta page; returns the number of the root page too.
    fn open(file: &'a [u8]) -> Result<(Self, u32), String> {
        let order = [ByteOrder::Little, ByteOrder::Big]
            .into_iter()
            .find(|order| order.u32(file, 12) == Some(MAGIC))
            .ok_or("it is no Berkeley DB B-tree")?;
        let field = |at| order.u32(file, at).ok_or("the meta page is cut short");
        let byte = |at: usize| *file.get(at).unwrap_or(&0);
        if field(16)? != VERSION {
            let version = field(16)?;
            return Err(format!(
                "its B-tree has version {version}, and only {VERSION} can be read; \
                 export it with bmfconv -e of the bmf that made it"
            ));
        }
        if byte(24) != 0 {
            return Err("it is encrypted, which bmf's databases are not".into());
        }
        if byte(26) != 0 {
            return Err("its pages have checksums, which bmf's have not".into());
        }
        if byte(25) != BTREE_META || field(36)? != 0 || field(48)? != 0 {
            return Err("its B-tree is of a kind that bmf does not make".into());
        }
        let page_size = field(20)? as usize;
        if !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
            return Err(format!("its page size is {page_size}"));
        }
        let n_pages = field(32)? as usize + 1;
        if file.len() / page_size < n_pages {
            let n_there = file.len() / page_size;
            return Err(format!("it has {n_there} of {n_pages} pages"));
        }
        let root = field(88)?;
        let mut seen = vec![false; n_pages];
        seen[0] = true;
        let tree = Self {
            file,
            order,
            page_size,
            seen,
        };
        Ok((tree, root))
    }

    /// Calls `visit` for all pairs, in the order of the keys.
    fn walk(&mut self, root: u32, visit: &mut dyn FnMut(&[u8], u32)) -> Result<(), String> {
        // With the level that its parent promises.
        let mut pending = vec![(root, None)];
        while let Some((number, level)) = pending.pop() {
            let page = self.page(number)?;
            if level.is_some_and(|level| level != page.level()) {
                return Err(page.wrong("is on the wrong level"));
            }
            match (page.kind(), page.level()) {
                (LEAF, 1) => self.leaf(&page, visit)?,
                (INTERNAL, 2..) => {
                    for child in page.children().rev() {
                        pending.push((child?, Some(page.level() - 1)));
                    }
                }
                _ => return Err(page.wrong("is no page of the tree")),
            }
        }
        Ok(())
    }

    fn page(&mut self, number: u32) -> Result<Page<'a>, String> {
        let wrong = |what| Err(format!("page {number} {what}"));
        match self.seen.get_mut(number as usize) {
            None => return wrong("is referred to and does not exist"),
            Some(true) => return wrong("is referred to twice"),
            Some(seen) => *seen = true,
        }
        let start = number as usize * self.page_size;
        let page = Page {
            bytes: &self.file[start..start + self.page_size],
            order: self.order,
            number,
        };
        if page.order.u32(page.bytes, 8) != Some(number) {
            return wrong("bears another number");
        }
        Ok(page)
    }

    fn leaf(&mut self, page: &Page<'a>, visit: &mut dyn FnMut(&[u8], u32)) -> Result<(), String> {
        // Items that overlap could make a small file yield any amount.
        let mut left = self.page_size;
        for pair in 0..page.n_items() / 2 {
            let items = [page.item(2 * pair), page.item(2 * pair + 1)];
            let [Some(key), Some(value)] = items else {
                return Err(page.wrong("has an item outside of it"));
            };
            for item in [&key, &value] {
                left = left
                    .checked_sub(item.bytes.len())
                    .ok_or_else(|| page.wrong("has items that overlap"))?;
            }
            if (key.kind | value.kind) & ITEM_DELETED != 0 {
                continue;
            }
            let (key, value) = (self.content(page, &key)?, self.content(page, &value)?);
            let count = self
                .order
                .u32(&value, 0)
                .filter(|_| value.len() == 4)
                .ok_or_else(|| page.wrong("has a value that is no count"))?;
            visit(&key, count);
        }
        Ok(())
    }

    fn content(
        &mut self,
        page: &Page<'a>,
        item: &Item<'a>,
    ) -> Result<std::borrow::Cow<'a, [u8]>, String> {
        match item.kind {
            ITEM_IN_PAGE => Ok(item.bytes[ITEM_HEADER..].into()),
            ITEM_IN_OVERFLOW => {
                let field = |at| self.order.u32(item.bytes, at);
                let (Some(first), Some(length)) = (field(4), field(8)) else {
                    return Err(page.wrong("has an item that is cut short"));
                };
                Ok(self.overflow(first, length)?.into())
            }
            kind => Err(page.wrong(&format!("has an item of type {kind}"))),
        }
    }

    /// The bytes of a chain of overflow pages.
    fn overflow(&mut self, first: u32, length: u32) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut next = first;
        while next != 0 {
            let page = self.page(next)?;
            let part = page
                .overflow_bytes()
                .ok_or_else(|| page.wrong("is no overflow page"))?;
            bytes.extend_from_slice(part);
            next = page.order.u32(page.bytes, 16).unwrap_or(0);
        }
        if bytes.len() != length as usize {
            return Err(format!("page {first} begins a chain of the wrong length"));
        }
        Ok(bytes)
    }
}

/// A page other than the first.
struct Page<'a> {
    bytes: &'a [u8],
    order: ByteOrder,
    number: u32,
}

/// An item of a leaf with its header.
struct Item<'a> {
    kind: u8,
    bytes: &'a [u8],
}

impl<'a> Page<'a> {
    fn level(&self) -> u8 {
        self.bytes[24]
    }

    fn kind(&self) -> u8 {
        self.bytes[25]
    }

    fn n_items(&self) -> usize {
        self.order.u16(self.bytes, 20).unwrap_or(0)
    }

    /// Where the `index`th item begins.
    fn offset(&self, index: usize) -> Option<usize> {
        let offset = self.order.u16(self.bytes, PAGE_HEADER + 2 * index)?;
        (offset >= PAGE_HEADER).then_some(offset)
    }

    fn children(&self) -> impl DoubleEndedIterator<Item = Result<u32, String>> {
        (0..self.n_items()).map(|index| {
            self.offset(index)
                .and_then(|offset| self.order.u32(self.bytes, offset + 4))
                .ok_or_else(|| self.wrong("has an item outside of it"))
        })
    }

    fn item(&self, index: usize) -> Option<Item<'a>> {
        let offset = self.offset(index)?;
        let kind = *self.bytes.get(offset + 2)?;
        let length = match kind & !ITEM_DELETED {
            ITEM_IN_OVERFLOW => 12,
            _ => ITEM_HEADER + self.order.u16(self.bytes, offset)?,
        };
        let bytes = self.bytes.get(offset..offset + length)?;
        Some(Item { kind, bytes })
    }

    fn overflow_bytes(&self) -> Option<&'a [u8]> {
        let length = self.order.u16(self.bytes, 22)?;
        let range: Range<usize> = PAGE_HEADER..PAGE_HEADER + length;
        (self.kind() == OVERFLOW).then(|| self.bytes.get(range))?
    }

    fn wrong(&self, what: &str) -> String {
        format!("page {} {what}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written by Debian's bmf: 414 tokens.
    const BMF: &[u8] = include_bytes!("../../tests/data/berkeley/bmf.db");
    /// The same list by its `bmfconv -e`.
    const BMF_EXPORTED: &str = include_str!("../../tests/data/berkeley/bmf.txt");
    /// Written by db5.3_load: 300 tokens and one of 1,500 bytes, in pages of
    /// 512 bytes, so that there is an internal page and an overflow chain.
    const BIG_ENDIAN: &[u8] = include_bytes!("../../tests/data/berkeley/big-endian.db");

    /// `file` with `bytes` at `at`.
    fn patched(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = file.to_vec();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    #[test]
    fn reads_what_bmf_writes() {
        let list = List::parse(BMF).unwrap();
        let mut text = format!(
            "# bogofilter wordlist (format version A): {}\n",
            list.messages
        );
        for (token, count) in &list.tokens {
            text += &format!("{} {count}\n", std::str::from_utf8(token).unwrap());
        }
        assert_eq!(text, BMF_EXPORTED);
    }

    #[test]
    fn reads_the_other_byte_order_internal_and_overflow_pages() {
        let list = List::parse(BIG_ENDIAN).unwrap();
        assert_eq!(list.messages, 70_000);
        let mut expected: Vec<_> = (0..300)
            .map(|i| (format!("token-{i:04}").into_bytes(), i * 7))
            .collect();
        expected.push((vec![b'x'; 1500], 5));
        assert!(list.tokens == expected);
    }

    #[test]
    fn deleted_items_are_gone() {
        // A page that was split holds dead copies too: all are marked.
        let mut file = BMF.to_vec();
        let copies = BMF.windows(6).enumerate().filter(|(_, w)| w == b"again3");
        for (at, _) in copies {
            file[at - 1] |= ITEM_DELETED;
        }
        let mut expected = List::parse(BMF).unwrap();
        expected.tokens.retain(|(token, _)| token != b"again3");
        assert!(List::parse(&file).unwrap() == expected);
    }

    #[test]
    fn file_of_no_bytes_is_an_empty_list() {
        assert_eq!(List::parse(b"").unwrap(), List::default());
    }

    #[test]
    fn says_what_it_cannot_read() {
        let root = 4096;
        let table: &[(&str, Vec<u8>)] = &[
            ("it is no Berkeley DB B-tree", b"garbage".to_vec()),
            ("it is no Berkeley DB B-tree", vec![0; 8192]),
            ("it has 0 of 6 pages", BMF[..60].to_vec()),
            ("the meta page is cut short", BMF[..30].to_vec()),
            ("its B-tree has version 8", patched(BMF, 16, &[8])),
            ("its page size is 4097", patched(BMF, 20, &[1])),
            ("it is encrypted", patched(BMF, 24, &[1])),
            ("its pages have checksums", patched(BMF, 26, &[1])),
            ("its B-tree is of a kind", patched(BMF, 25, &[8])),
            ("its B-tree is of a kind", patched(BMF, 48, &[0x20])),
            ("it has 5 of 6 pages", BMF[..BMF.len() - 1].to_vec()),
            ("page 1 bears another number", patched(BMF, root + 8, &[9])),
            (
                "page 1 is no page of the tree",
                patched(BMF, root + 25, &[7]),
            ),
            (
                "page 77 is referred to and does not",
                patched(BMF, 88, &[77]),
            ),
            ("page 0 is referred to twice", patched(BMF, 88, &[0])),
            (
                "page 1 has an item outside",
                patched(BMF, root + 26, &[255, 255]),
            ),
        ];
        for (message, file) in table {
            let error = List::parse(file).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn overlapping_items_are_refused() {
        // All keys of a leaf are made the same one, of 1,024 bytes.
        let number = (1..BMF.len() / 4096)
            .find(|n| BMF[n * 4096 + 25] == LEAF)
            .unwrap();
        let mut file = BMF.to_vec();
        let page = &mut file[number * 4096..][..4096];
        let n_items = u16::from_le_bytes([page[20], page[21]]);
        page[1000..1003].copy_from_slice(&[0, 4, ITEM_IN_PAGE]);
        for index in (0..usize::from(n_items)).step_by(2) {
            page[26 + 2 * index..][..2].copy_from_slice(&1000u16.to_le_bytes());
        }
        let error = List::parse(&file).unwrap_err();
        assert!(error.ends_with("has items that overlap"), "{error}");
    }

    proptest! {
        /// Bounded and without panic, whatever is overwritten.
        #[test]
        fn damage_is_an_error_or_harmless(
            big_endian: bool,
            patches in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
            cut in any::<proptest::sample::Index>(),
            is_cut: bool,
        ) {
            let mut file = if big_endian { BIG_ENDIAN } else { BMF }.to_vec();
            for (at, byte) in patches {
                let at = at.index(file.len());
                file[at] = byte;
            }
            if is_cut {
                file.truncate(cut.index(file.len()));
            }
            if let Ok(list) = List::parse(&file) {
                let size: usize = list.tokens.iter().map(|(token, _)| token.len()).sum();
                prop_assert!(size <= file.len());
            }
        }
    }
}
