//! What a host gives all its users to begin with: a model that nobody changes.
//!
//! Each user's own sums are added to it, bucket by bucket, so that what is
//! learned afterwards counts as if it had been learned by the same model; only
//! the user's own are ever written. How many messages were learned and how
//! labels and scores went together are the user's alone, but that two classes
//! are known to the base is enough to compare with.
//!
//! # Format
//!
//! `postern base` and LF; then numbers of 4 bytes, little-endian: version of
//! model and features, ham, spam, and for each page where it ends, counted
//! from the end of these numbers; then the pages, as in a store. At most 4 MB.

use std::fs;
use std::path::Path;

use super::encode::VERSION;
use super::model::Model;
use super::page::{N_PAGES, PAGE_BUCKETS, Page, Sums, encode};
use super::stored::damaged;
use super::weights::{Bucket, N_BUCKETS};
use crate::{Error, TrainedMessages};

const MAGIC: &[u8] = b"postern base\n";
const PAGES_AT: usize = MAGIC.len() + 4 * (3 + N_PAGES as usize);

/// A model to begin with.
#[derive(Clone, Debug)]
pub struct Base {
    bytes: Vec<u8>,
    trained: TrainedMessages,
}

impl Base {
    /// Adds up `models`, each of a user who agreed. Where a sum would leave
    /// its 16 bits all are made smaller without changing any weight, which
    /// only gives the more say to what users learn.
    pub fn of<'a>(models: impl IntoIterator<Item = &'a Model>) -> Self {
        let mut sums = vec![(0i64, 0u64); N_BUCKETS as usize];
        let mut trained = TrainedMessages::default();
        for model in models {
            for ((z, q), (add_z, add_q)) in sums.iter_mut().zip(&model.buckets) {
                *z += i64::from(*add_z);
                *q += u64::from(*add_q);
            }
            trained.ham = trained.ham.saturating_add(model.trained.ham);
            trained.spam = trained.spam.saturating_add(model.trained.spam);
        }
        let fits = |scale: u64| {
            sums.iter().all(|(z, q)| {
                z.unsigned_abs() / scale <= i16::MAX as u64
                    && q / (scale * scale) <= u64::from(u16::MAX)
            })
        };
        let scale = (0..16)
            .map(|n| 1 << n)
            .find(|n| fits(*n))
            .unwrap_or(1 << 16);
        let scaled = sums.iter().map(|(z, q)| {
            let z = z / scale as i64;
            // A bucket whose squares are 0 counts as untouched.
            let q = (q / (scale * scale)).max(u64::from(*q > 0));
            (z as i16, q as u16)
        });
        Self::encoded(&scaled.collect::<Vec<Sums>>(), trained)
    }

    fn encoded(sums: &[Sums], trained: TrainedMessages) -> Self {
        let mut bytes = MAGIC.to_vec();
        let mut pages = Vec::new();
        for number in [VERSION, trained.ham, trained.spam] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for buckets in sums.chunks(PAGE_BUCKETS) {
            pages.extend(encode(buckets).unwrap_or_default());
            bytes.extend_from_slice(&(pages.len() as u32).to_le_bytes());
        }
        bytes.extend(pages);
        Self { bytes, trained }
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is none, or was written by a newer program.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Self::parse(bytes, path)
    }

    /// From what [`as_bytes`](Self::as_bytes) gave; errors name `path`.
    ///
    /// # Errors
    /// When it is something else, or of a newer program.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, Error> {
        if !bytes.starts_with(MAGIC) {
            return Err(damaged(path, "it is no base model"));
        }
        let number = |n: usize| number(&bytes, n);
        let found = number(0);
        if found > VERSION {
            return Err(Error::NewerFormat {
                path: path.into(),
                found,
                newest: VERSION,
            });
        }
        if found < VERSION {
            return Err(damaged(path, "it is a base model of an older program"));
        }
        let trained = TrainedMessages {
            ham: number(1),
            spam: number(2),
        };
        let base = Self { bytes, trained };
        let is_page = |page: &[u8]| page.is_empty() || Page::parse(page).is_some();
        let is_whole = (0..N_PAGES as usize).all(|n| base.page(n).is_some_and(is_page));
        match is_whole && base.bytes.len() == PAGES_AT + base.end(N_PAGES as usize) {
            true => Ok(base),
            false => Err(damaged(path, "its pages make no sense")),
        }
    }

    /// What [`open`](Self::open) reads.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages made it.
    pub fn trained(&self) -> TrainedMessages {
        self.trained
    }

    /// The sums of one bucket.
    pub(super) fn bucket(&self, index: u32) -> Bucket {
        let (page, at) = (index as usize / PAGE_BUCKETS, index as usize % PAGE_BUCKETS);
        let page = self.page(page).and_then(Page::parse);
        page.map(|page| page.bucket(at)).unwrap_or_default()
    }

    fn page(&self, number: usize) -> Option<&[u8]> {
        let pages = self.bytes.get(PAGES_AT..)?;
        pages.get(self.end(number)..self.end(number + 1))
    }

    /// Where the page before this one ends.
    fn end(&self, number: usize) -> usize {
        match number {
            0 => 0,
            _ => self::number(&self.bytes, 2 + number) as usize,
        }
    }
}

/// A number of the head; 0 behind the end.
fn number(bytes: &[u8], n: usize) -> u32 {
    let bytes = bytes.get(MAGIC.len() + 4 * n..).unwrap_or_default();
    bytes.first_chunk().map_or(0, |n| u32::from_le_bytes(*n))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::Label;
    use crate::modern::{
        Act, Class, Keep, Lesson, Params, Record, Weights, features, learn, score,
    };
    use crate::store::{Durability, MemoryModel, ModelStore};

    fn mail(n: u32, words: &str) -> Vec<u8> {
        format!("From: a{n}@example.org\nSubject: {words} {n}\n\n{words} number {n}\n").into_bytes()
    }

    fn model() -> Model {
        let mut model = Model::default();
        for n in 0..40 {
            for (words, label) in [("cheap pills", Label::Spam), ("our lunch", Label::Ham)] {
                let features = features(&mail(n, words));
                model.add(&mut Record::new(&features, label, &model));
            }
        }
        model
    }

    fn log_odds(store: &MemoryModel, raw: &[u8]) -> f64 {
        store.judge(&[features(raw)], &Params::default()).unwrap()[0].log_odds
    }

    #[test]
    fn a_new_user_judges_as_the_base_and_learns_alone() {
        let model = model();
        let base = Arc::new(Base::of([&model]));
        let mut ann = MemoryModel::over(Arc::clone(&base));
        let bob = MemoryModel::over(base);
        let raw = mail(99, "cheap pills");
        let params = Params::default();
        let judged = bob.judge(&[features(&raw)], &params).unwrap()[0];
        let expected = score(&features(&raw), &model, &params);
        assert_eq!(judged.views, expected.views);
        assert_eq!(judged.class, Class::Spam);

        let keep = Keep::default();
        let mut teach = |act| {
            let lesson = Lesson::new(&raw, act);
            learn(&mut ann, &[lesson], 1, &keep, Durability::Relaxed).unwrap();
            log_odds(&ann, &raw)
        };
        let after = teach(Act::Learn(Label::Ham));
        assert!(after < judged.log_odds - 1.0, "{after}");
        assert_eq!(log_odds(&bob, &raw), judged.log_odds);
        assert_eq!(teach(Act::Forget), judged.log_odds);
    }

    #[test]
    fn models_are_added_up_and_made_to_fit() {
        let model = model();
        let twice = Base::of([&model, &model]);
        assert_eq!(twice.trained().ham, 2 * model.trained.ham);
        let (n, (z, q)) = (0u32..)
            .zip(&model.buckets)
            .find(|(_, sums)| sums.1 > 9)
            .unwrap();
        let sums = twice.bucket(n);
        assert_eq!(
            (sums.gradient, sums.squares),
            (2 * i32::from(*z), 2 * u32::from(*q))
        );
        let many = Base::of(std::iter::repeat_n(&model, 1_000));
        let weight = |bucket: Bucket| f64::from(bucket.gradient) / f64::from(bucket.squares).sqrt();
        let (index, _) = (0u32..)
            .zip(&model.buckets)
            .max_by_key(|(_, sums)| sums.1)
            .unwrap();
        let ratio = weight(many.bucket(index)) / (weight(model.bucket(index)) * 1_000f64.sqrt());
        assert!((ratio - 1.0).abs() < 0.05, "{ratio}");
    }

    #[test]
    fn other_files_are_refused() {
        let path = Path::new("base");
        let bytes = Base::of([&model()]).as_bytes().to_vec();
        assert!(Base::parse(bytes.clone(), path).is_ok());
        for len in (0..bytes.len()).step_by(501) {
            let error = Base::parse(bytes[..len].to_vec(), path).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{len}: {error}");
        }
        let mut newer = bytes;
        newer[MAGIC.len()] += 1;
        let error = Base::parse(newer, path).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damage_is_refused_or_survived(at: prop::sample::Index, byte: u8) {
            let mut model = Model::default();
            model.add(&mut Record::new(&features(&mail(1, "a b")), Label::Spam, &model));
            let mut bytes = Base::of([&model]).bytes;
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(base) = Base::parse(bytes, Path::new("base")) {
                let sum: u64 = (0..N_BUCKETS).step_by(97).map(|n| u64::from(base.bucket(n).squares)).sum();
                prop_assert!(sum < 1 << 40);
            }
        }
    }
}
