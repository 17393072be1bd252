//! What a synthetic message says, before it is encoded.
//!
//! Ham and spam of a topic share subjects and most sentences. What tells them
//! apart is what a careful reader would look at: what is asked for, and
//! whether the link and the sender belong together. Some of each class are
//! hard on purpose: genuine people passing spam on with a question, and spam
//! padded with quoted genuine mail or sent from a friend's address.

use classifier::Label;

use super::templates::{LANGUAGES, Language, Slots, Topic, fill};
use super::world::{self, Correspondent, World};
use crate::Random;

/// A message before encoding.
pub(super) struct Draft {
    pub(super) language: &'static Language,
    pub(super) from: Correspondent,
    pub(super) to: Correspondent,
    /// Set when it came through a mailing list.
    pub(super) list: Option<Correspondent>,
    /// The host that handed it over, true or not to the From field.
    pub(super) sending_host: String,
    /// What the owner's mail host found: SPF, DKIM.
    pub(super) authenticated: &'static str,
    pub(super) subject: String,
    pub(super) paragraphs: Vec<String>,
    /// For the HTML part: text that the reader does not see.
    pub(super) hidden: Option<String>,
    /// For the HTML part: shown in place of the address of each link.
    pub(super) shown_link: Option<String>,
    pub(super) link: String,
    pub(super) attachment: Option<Attachment>,
    /// Written by a program and not by a mail reader.
    pub(super) bulk: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Attachment {
    Pdf,
    Png,
    Zip,
}

/// How a message comes to be; the weights are of a hundred in its class.
#[derive(Clone, Copy)]
enum Kind {
    /// What the sender says he is.
    Genuine,
    /// A conversation on a mailing list.
    Thread,
    /// Spam that somebody genuine passes on with a question or a warning.
    Forward,
    /// Says what it wants.
    Blatant,
    /// Nearly all shared sentences; the link or the one odd request tells.
    Imitation,
    /// A pitch above a quoted genuine conversation.
    Padded,
    /// A pitch in the name of somebody whom the owner knows.
    Spoofed,
}

const HAM_KINDS: [(usize, Kind); 3] = [(77, Kind::Genuine), (18, Kind::Thread), (5, Kind::Forward)];
const SPAM_KINDS: [(usize, Kind); 4] = [
    (74, Kind::Blatant),
    (12, Kind::Imitation),
    (8, Kind::Padded),
    (6, Kind::Spoofed),
];

/// Writes a message of the given class, in one language or in any.
pub(super) fn draft(
    label: Label,
    language: Option<usize>,
    world: &World,
    random: &mut Random,
) -> Draft {
    let kinds: &[(usize, Kind)] = match label {
        Label::Ham => &HAM_KINDS,
        Label::Spam => &SPAM_KINDS,
    };
    let weights: Vec<usize> = kinds.iter().map(|(weight, _)| *weight).collect();
    let (_, kind) = kinds[random.weighted(&weights)];
    let weights: Vec<usize> = LANGUAGES.iter().map(|(weight, _)| *weight).collect();
    let language = language.unwrap_or_else(|| random.weighted(&weights));
    Writer::new(kind, language, world, random).write()
}

/// One message in the making.
struct Writer<'a> {
    kind: Kind,
    language_index: usize,
    language: &'static Language,
    topic: &'static Topic,
    world: &'a World,
    random: &'a mut Random,
}

impl<'a> Writer<'a> {
    fn new(kind: Kind, language_index: usize, world: &'a World, random: &'a mut Random) -> Self {
        let language: &'static Language = &LANGUAGES[language_index].1;
        let personal = |topic: &&Topic| topic.name == "personal";
        let topic = match (kind, language.topics.iter().find(personal)) {
            (Kind::Thread, Some(topic)) => topic,
            _ => random.pick(&language.topics),
        };
        Self {
            kind,
            language_index,
            language,
            topic,
            world,
            random,
        }
    }

    fn write(mut self) -> Draft {
        let known = self.world;
        let claimed = self.claimed_sender();
        let link = self.link(&claimed);
        let slots = self.slots(&claimed, link.clone());
        let from = self.sender_field(&claimed);
        let subject_template = self.random.pick(&self.topic.subject);
        let subject = fill(subject_template, &slots, self.random);
        let paragraphs = self.paragraphs(&slots);
        Draft {
            language: self.language,
            to: known.owner.clone(),
            list: matches!(self.kind, Kind::Thread).then(|| self.random.pick(&known.lists).clone()),
            sending_host: self.sending_host(&from),
            authenticated: self.authenticated(),
            subject: self.subject(subject),
            hidden: self.hidden_text(&slots),
            shown_link: (self.is_spam() && self.random.chance(40.0))
                .then(|| format!("https://{}/", claimed.domain)),
            link,
            attachment: self.attachment(),
            bulk: !self.is_personal(),
            paragraphs,
            from,
        }
    }

    fn is_spam(&self) -> bool {
        !matches!(self.kind, Kind::Genuine | Kind::Thread | Kind::Forward)
    }

    /// From one person to another, as far as one can see.
    fn is_personal(&self) -> bool {
        matches!(self.kind, Kind::Forward | Kind::Thread) || self.topic.name == "personal"
    }

    /// Who the message says it is from. Genuine mail also comes from people
    /// and shops that were never heard of, and an imitation wears a known name.
    fn claimed_sender(&mut self) -> Correspondent {
        let people = &self.world.people[self.language_index];
        let known = match self.kind {
            Kind::Genuine => self.random.chance(80.0),
            Kind::Thread | Kind::Forward | Kind::Spoofed => true,
            Kind::Blatant | Kind::Padded => self.random.chance(12.0),
            Kind::Imitation => self.random.chance(65.0),
        };
        match (self.is_personal(), known) {
            (true, true) => self.random.pick(people).clone(),
            (true, false) => world::person(self.language, self.random),
            (false, true) => {
                let brands = &self.world.brands[self.language_index];
                self.random.pick(brands).clone()
            }
            (false, false) => world::brand(self.random),
        }
    }

    fn sender_field(&mut self, claimed: &Correspondent) -> Correspondent {
        let keeps_address = match self.kind {
            Kind::Spoofed => true,
            Kind::Imitation => self.random.chance(35.0),
            kind => matches!(kind, Kind::Genuine | Kind::Thread | Kind::Forward),
        };
        let mut from = claimed.clone();
        if !keeps_address {
            from.domain = self.elsewhere();
        }
        from
    }

    fn sending_host(&mut self, from: &Correspondent) -> String {
        let own = if self.is_spam() { 30.0 } else { 88.0 };
        if self.random.chance(own) {
            format!("mail.{}", from.domain)
        } else if self.is_spam() {
            self.elsewhere()
        } else {
            world::domain(self.random)
        }
    }

    /// A host that has nothing to do with the claimed sender.
    fn elsewhere(&mut self) -> String {
        if self.random.chance(75.0) {
            self.random.pick(&self.world.spam_hosts).clone()
        } else {
            world::domain(self.random)
        }
    }

    fn authenticated(&mut self) -> &'static str {
        let weights = match self.kind {
            Kind::Spoofed => [35, 35, 30],
            _ if self.is_spam() => [40, 35, 25],
            _ => [80, 16, 4],
        };
        ["pass", "none", "fail"][self.random.weighted(&weights)]
    }

    /// Genuine links lead to the sender, false ones elsewhere.
    fn link(&mut self, claimed: &Correspondent) -> String {
        let host = if self.is_spam() {
            let elsewhere = self.elsewhere();
            if self.random.chance(40.0) {
                let name = claimed.domain.split('.').next().unwrap_or("www");
                format!("{name}.{elsewhere}")
            } else {
                elsewhere
            }
        } else {
            claimed.domain.clone()
        };
        let page = self
            .random
            .pick(&["track", "login", "my", "offers", "c", "info", "view"]);
        format!("https://{host}/{page}/{:x}", self.random.below(1 << 24))
    }

    fn slots(&mut self, claimed: &Correspondent, link: String) -> Slots {
        let large = self.is_spam() && matches!(self.topic.name.as_str(), "personal" | "newsletter");
        let amount = if large && self.random.chance(60.0) {
            format!(
                "{}.{}00.000",
                self.random.between(1, 9),
                self.random.between(1, 9)
            )
        } else {
            format!(
                "{},{:02}",
                self.random.between(8, 480),
                self.random.below(100)
            )
        };
        let currency = self.random.pick(&["EUR", "€", "$", "USD"]);
        let sender = if self.is_personal() {
            claimed
                .name
                .split(' ')
                .next()
                .unwrap_or(&claimed.name)
                .to_owned()
        } else {
            self.random.pick(&self.language.names).clone()
        };
        Slots {
            name: self.random.pick(&self.language.names).clone(),
            sender,
            brand: claimed.name.clone(),
            product: self.random.pick(&self.language.products).clone(),
            city: self.random.pick(&self.language.cities).clone(),
            day: self.random.pick(&self.language.days).clone(),
            order: self.random.between(100_000, 9_999_999).to_string(),
            amount: format!("{amount} {currency}"),
            days: self.random.between(2, 9).to_string(),
            link,
        }
    }

    fn subject(&mut self, subject: String) -> String {
        match self.kind {
            Kind::Forward => format!("Fwd: {subject}"),
            Kind::Thread | Kind::Padded if !subject.starts_with("Re: ") => format!("Re: {subject}"),
            _ => subject,
        }
    }

    fn paragraphs(&mut self, slots: &Slots) -> Vec<String> {
        let topic = self.topic;
        let language = self.language;
        match self.kind {
            Kind::Genuine => {
                let n_shared = self.random.between(1, 4);
                let n_own = self.random.weighted(&[12, 58, 30]);
                self.letter(topic, n_shared, &topic.ham, n_own, slots)
            }
            Kind::Thread => {
                let mut out = self.letter(topic, 1, &topic.ham, 1, slots);
                let n_own = self.random.between(1, 2);
                let earlier = self.letter(topic, 2, &topic.ham, n_own, slots);
                out.extend(quoted(&earlier));
                out
            }
            Kind::Forward => {
                let why = self.random.pick(&language.forward);
                let why = fill(why, slots, self.random);
                let mut elsewhere = slots.clone();
                elsewhere.link = format!("https://{}/login", world::domain(self.random));
                let (n_shared, n_own) = (self.random.between(1, 3), self.random.between(1, 2));
                let spam = self.letter(topic, n_shared, &topic.spam, n_own, &elsewhere);
                let mut out = vec![why, "-----".to_owned()];
                out.extend(quoted(&spam));
                out
            }
            Kind::Blatant | Kind::Spoofed => {
                let (n_shared, n_own) = (self.random.between(0, 1), self.random.between(2, 3));
                let letter = self.letter(topic, n_shared, &topic.spam, n_own, slots);
                self.disguised(letter)
            }
            Kind::Imitation => {
                let (n_shared, n_own) =
                    (self.random.between(2, 3), self.random.weighted(&[20, 80]));
                self.letter(topic, n_shared, &topic.spam, n_own, slots)
            }
            Kind::Padded => {
                let mut out = self.letter(topic, 0, &topic.spam, 1, slots);
                let other = self.random.pick(&language.topics);
                let genuine = self.letter(other, 3, &other.ham, 3, slots);
                out.extend(quoted(&genuine));
                out
            }
        }
    }

    /// A greeting, some sentences in random order, a closing.
    fn letter(
        &mut self,
        topic: &Topic,
        n_shared: usize,
        own: &[String],
        n_own: usize,
        slots: &Slots,
    ) -> Vec<String> {
        let language = self.language;
        let mut sentences = self.random.sample(&topic.shared, n_shared);
        sentences.extend(self.random.sample(own, n_own));
        self.random.shuffle(&mut sentences);
        let mut paragraphs = vec![self.random.pick(&language.greeting).clone()];
        while !sentences.is_empty() {
            let n = self.random.between(1, 3).min(sentences.len());
            let paragraph: Vec<&str> = sentences.drain(..n).map(String::as_str).collect();
            paragraphs.push(joined(&paragraph, language));
        }
        if !paragraphs.iter().any(|p| p.contains("{link}")) {
            paragraphs.push("{link}".to_owned());
        }
        paragraphs.push(self.random.pick(&language.closing).clone());
        if matches!(topic.name.as_str(), "newsletter" | "job") && self.random.chance(60.0) {
            paragraphs.push(self.random.pick(&language.unsubscribe).clone());
        }
        paragraphs
            .iter()
            .map(|paragraph| fill(paragraph, slots, self.random))
            .collect()
    }

    /// Now and then letters that look alike, or that nobody sees.
    fn disguised(&mut self, paragraphs: Vec<String>) -> Vec<String> {
        match self.random.below(10) {
            0 => paragraphs.iter().map(|p| look_alike(p)).collect(),
            1 => paragraphs.iter().map(|p| self.with_zero_width(p)).collect(),
            _ => paragraphs,
        }
    }

    fn with_zero_width(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() * 2);
        for c in text.chars() {
            out.push(c);
            if c.is_alphabetic() && self.random.chance(20.0) {
                out.push('\u{200b}');
            }
        }
        out
    }

    /// Sentences of genuine mail that a false one hides from its reader.
    fn hidden_text(&mut self, slots: &Slots) -> Option<String> {
        if !self.is_spam() || !self.random.chance(15.0) {
            return None;
        }
        let topic = self.random.pick(&self.language.topics);
        let sentences = self.random.sample(&topic.ham, 3);
        let filled = sentences.iter().map(|s| fill(s, slots, self.random));
        Some(filled.collect::<Vec<_>>().join(" "))
    }

    fn attachment(&mut self) -> Option<Attachment> {
        let likely = match self.topic.name.as_str() {
            "invoice" => 65.0,
            "personal" | "newsletter" | "job" => 18.0,
            _ => 8.0,
        };
        self.random.chance(likely).then(|| {
            *self
                .random
                .pick(&[Attachment::Pdf, Attachment::Png, Attachment::Zip])
        })
    }
}

/// Sentences as running text. Where no blanks are written, one still has to
/// follow a link, or the next word would belong to it.
fn joined(sentences: &[&str], language: &Language) -> String {
    if language.has_blanks() {
        sentences.join(" ")
    } else {
        sentences
            .concat()
            .replace("{link}", "{link} ")
            .trim_end()
            .to_owned()
    }
}

fn quoted(paragraphs: &[String]) -> impl Iterator<Item = String> {
    paragraphs.iter().map(|p| format!("> {p}"))
}

/// Latin letters replaced by Cyrillic ones of the same shape.
fn look_alike(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            'a' => 'а',
            'e' => 'е',
            'o' => 'о',
            'p' => 'р',
            'c' => 'с',
            other => other,
        })
        .collect()
}
