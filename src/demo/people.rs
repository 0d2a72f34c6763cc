//! Invented people from a fixed seed: the same on every machine, so the tour can check what it shows.
//!
//! In: how many. Out: rows, and each table as COPY text. Never: a real person; randomness.

use std::collections::BTreeSet;

use jiff::civil::{Date, date};

use super::lists::{
    ADJECTIVES, ANIMALS, CITIES, CONSENTS, DIAGNOSES, DOCTORS, DOMAINS, FAMILY, GIVEN, LETTERS, REASONS,
};

/// Names the data set; another seed is another clinic.
const SEED: u64 = 0x9e_d1c0;

/// One row of `users`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the table's columns")]
pub struct Person {
    pub id: u64,
    pub email: String,
    pub full_name: String,
    pub phone_number: String,
    pub date_of_birth: Date,
    pub medical_record_number: String,
    pub nickname: String,
    pub joined: Date,
}

/// A table's rows in COPY's text format.
#[derive(Clone, Debug)]
pub struct Load {
    /// `table (columns)`, as COPY wants it.
    pub target: &'static str,
    /// How many rows.
    pub rows: u64,
    /// The rows.
    pub text: String,
}

/// The first `count` people of the clinic.
pub fn people(count: u64) -> Vec<Person> {
    let mut dice = Dice(SEED);
    (1..=count).map(|id| person(id, &mut dice)).collect()
}

fn person(id: u64, dice: &mut Dice) -> Person {
    let (given, family) = (dice.pick(GIVEN), dice.pick(FAMILY));
    let born = date(1931, 1, 1).saturating_add(jiff::Span::new().days(dice.below(28_000)));
    let joined = date(2020, 1, 1).saturating_add(jiff::Span::new().days(dice.below(2_200)));
    Person {
        id,
        email: format!("{}.{}{id}@{}", ascii(given), ascii(family), dice.pick(DOMAINS)),
        full_name: format!("{given} {family}"),
        // 01632 960xxx is set aside for fiction; the country code makes it ten digits and more.
        phone_number: format!("+44 1632 960{:03}{:04}", dice.below(1_000), id),
        date_of_birth: born,
        medical_record_number: format!("MRN-{:02}-{id:06}", dice.below(100)),
        nickname: format!("{} {}", dice.pick(ADJECTIVES), dice.pick(ANIMALS)),
        joined,
    }
}

/// Every table of the schema for those people, parents first.
pub fn loads(people: &[Person]) -> Vec<Load> {
    let mut dice = Dice(SEED ^ 1);
    vec![
        users(people),
        appointments(people, &mut dice),
        medical_records(people, &mut dice),
        communications(people, &mut dice),
        consent_records(people, &mut dice),
    ]
}

fn users(people: &[Person]) -> Load {
    let mut load = Load::new(
        "users (id, email, full_name, phone_number, date_of_birth, medical_record_number, nickname, created_at)",
    );
    for p in people {
        let (id, born, joined) = (p.id.to_string(), p.date_of_birth.to_string(), format!("{} 09:00+00", p.joined));
        let (email, name, phone) = (&p.email, &p.full_name, &p.phone_number);
        load.row(&[&id, email, name, phone, &born, &p.medical_record_number, &p.nickname, &joined]);
    }
    load
}

fn appointments(people: &[Person], dice: &mut Dice) -> Load {
    let mut load = Load::new("appointments (id, user_id, doctor, starts_at, reason)");
    for p in people {
        for _ in 0..=dice.below(2) {
            let day = p.joined.saturating_add(jiff::Span::new().days(dice.below(400)));
            let at = format!("{day} {:02}:{:02}+00", 8 + dice.below(9), 15 * dice.below(4));
            let id = load.next_id();
            load.row(&[&id, &p.id.to_string(), dice.pick(DOCTORS), &at, dice.pick(REASONS)]);
        }
    }
    load
}

fn medical_records(people: &[Person], dice: &mut Dice) -> Load {
    let mut load =
        Load::new("medical_records (id, patient_id, patient_name, date_of_birth, diagnosis, treatment, created_at)");
    for p in people {
        let (diagnosis, treatment) = dice.pick(DIAGNOSES);
        let (id, patient, born) = (load.next_id(), p.id.to_string(), p.date_of_birth.to_string());
        load.row(&[&id, &patient, &p.full_name, &born, diagnosis, treatment, &format!("{} 10:30+00", p.joined)]);
    }
    load
}

fn communications(people: &[Person], dice: &mut Dice) -> Load {
    let mut load = Load::new("communications (id, user_id, channel, subject, body, sent_at)");
    for p in people.iter().filter(|p| p.id % 2 == 0) {
        let (subject, body) = dice.pick(LETTERS);
        let body = body
            .replace("{name}", &p.full_name)
            .replace("{city}", dice.pick(CITIES))
            .replace("{reason}", dice.pick(REASONS));
        let channel = dice.pick(&["email", "letter", "sms"]);
        let (id, user) = (load.next_id(), p.id.to_string());
        load.row(&[&id, &user, channel, subject, &body, &format!("{} 12:00+00", p.joined)]);
    }
    load
}

fn consent_records(people: &[Person], dice: &mut Dice) -> Load {
    let mut load =
        Load::new("consent_records (id, user_id, consent_type, granted, consent_date, consent_text, version)");
    for p in people {
        for (kind, text) in CONSENTS {
            let granted = if *kind == "data_processing" || dice.below(3) > 0 { "t" } else { "f" };
            let (id, user) = (load.next_id(), p.id.to_string());
            load.row(&[&id, &user, kind, granted, &format!("{} 09:00+00", p.joined), text, "1.0"]);
        }
    }
    load
}

impl Load {
    fn new(target: &'static str) -> Self {
        Self { target, rows: 0, text: String::new() }
    }

    fn next_id(&self) -> String {
        (self.rows + 1).to_string()
    }

    fn row(&mut self, fields: &[&str]) {
        self.rows += 1;
        for (i, field) in fields.iter().enumerate() {
            if i > 0 {
                self.text.push('\t');
            }
            for c in field.chars() {
                match c {
                    '\t' => self.text.push_str("\\t"),
                    '\n' => self.text.push_str("\\n"),
                    '\\' => self.text.push_str("\\\\"),
                    c => self.text.push(c),
                }
            }
        }
        self.text.push('\n');
    }
}

/// The letters of a mail address: lower case, accents dropped, anything else left out.
fn ascii(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' => out.push(c),
            'ä' | 'á' | 'à' | 'ã' | 'â' => out.push('a'),
            'ć' | 'ç' | 'č' => out.push('c'),
            'é' | 'è' | 'ë' | 'ě' | 'ễ' => out.push('e'),
            'ı' | 'í' => out.push('i'),
            'ł' => out.push('l'),
            'ń' | 'ñ' => out.push('n'),
            'ö' | 'ó' | 'ø' => out.push('o'),
            'ř' => out.push('r'),
            'ş' | 'ś' => out.push('s'),
            'ß' => out.push_str("ss"),
            'ü' | 'ú' => out.push('u'),
            _ => {}
        }
    }
    out
}

/// SplitMix64 (Steele, Lea, Flood 2014): a data generator, never a source of keys.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 ≤ result < `bound`; the bias for bounds this small is below 2⁻⁴⁸.
    fn below(&mut self, bound: u32) -> i64 {
        i64::from(u32::try_from(self.next() % u64::from(bound)).unwrap_or(0))
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        let at = self.next() % list.len() as u64;
        list[usize::try_from(at).unwrap_or(0)]
    }
}

/// Text whose absence from a dump shows that no sealed value is in it: what all mail addresses and record numbers
/// have in common, every diagnosis and treatment, and the names of every
/// tenth person. The most telling come first.
pub fn needles(people: &[Person]) -> Vec<String> {
    let mut out = vec!["MRN-".to_owned(), "+44 1632".to_owned(), "Dear ".to_owned()];
    for (diagnosis, treatment) in DIAGNOSES {
        out.extend([(*diagnosis).to_owned(), (*treatment).to_owned()]);
    }
    out.extend(REASONS.iter().map(|reason| (*reason).to_owned()));
    let names: BTreeSet<&str> = people.iter().step_by(10).map(|p| p.full_name.as_str()).collect();
    out.extend(names.into_iter().map(str::to_owned));
    out.extend(people.iter().step_by(10).map(|p| p.email.clone()));
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_clinic_everywhere() {
        let people = people(5_000);
        assert_eq!(people.len(), 5_000);
        assert_eq!(people, super::people(5_000));
        assert_eq!(people[..3], super::people(3));
        let emails: HashSet<&str> = people.iter().map(|p| p.email.as_str()).collect();
        let records: HashSet<&str> = people.iter().map(|p| p.medical_record_number.as_str()).collect();
        assert_eq!((emails.len(), records.len()), (5_000, 5_000));
        assert!(people.iter().all(|p| p.email.is_ascii() && !p.email.contains("..") && !p.email.starts_with('.')));
        assert!(people.iter().all(|p| p.medical_record_number.len() <= 20 && p.phone_number.len() <= 32));
    }

    #[test]
    fn copy_text_has_one_field_per_column() {
        for load in loads(&people(200)) {
            let columns = load.target.matches(',').count() + 1;
            assert_eq!(load.text.lines().count() as u64, load.rows, "{}", load.target);
            assert!(load.text.lines().all(|line| line.split('\t').count() == columns), "{}", load.target);
        }
    }

    #[test]
    fn plaintext_columns_hold_no_needle() {
        let people = people(500);
        let needles = needles(&people);
        for p in &people {
            assert!(!needles.iter().any(|n| p.nickname.contains(n.as_str())), "{}", p.nickname);
        }
        assert!(
            DOCTORS
                .iter()
                .chain(CONSENTS.iter().map(|(_, text)| text))
                .all(|text| !needles.iter().any(|n| text.contains(n.as_str())))
        );
    }
}
